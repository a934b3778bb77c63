# SPDX-License-Identifier: Apache-2.0
"""Answers of `login`, `logout`, `createConsoleEndpoint` and `queryAsyncJobResult`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class LoginAnswer:
    username: str = always("the user's name")
    userid: str = always("the user's UUID")
    account: str = always("the account's name")
    domainid: str = always("the domain's UUID")
    type: str = always("0 for users, 1 for administrators")
    firstname: str = always("first name")
    lastname: str = always("last name")
    timeout: int = always("seconds of idleness after which the session ends")
    timezone: str = always("UTC")
    timezoneoffset: str = always("0.0")
    registered: str = always("always false")
    sessionkey: str = always("to be sent with every later call; shown once")
    is2faenabled: str = always("always false")
    is2faverified: str = always("always true")


@frozen(kw_only=True)
class LogoutAnswer:
    description: str = always("success")


@frozen(kw_only=True)
class WebSocketAnswer:
    """For clients that speak RFB over WebSocket themselves."""

    token: str = always("spent by the first connection")
    host: str = always("host to connect to")
    port: str = always("port to connect to")
    path: str = always("path of the WebSocket")
    extra: str | None = says("a further secret, when one was given")


@frozen(kw_only=True)
class ConsoleEndpointAnswer:
    success: bool = always("whether there is a console")
    details: str | None = says("why there is none")
    hint: str | None = says("what to do about it; an addition to CloudStack's keys")
    url: str | None = says("for a browser, once, within a minute")
    websocket: WebSocketAnswer | None = says("the same console for other clients")


@frozen(kw_only=True)
class JobAnswer:
    """An asynchronous job."""

    jobid: str = always("the UUID")
    cmd: str = always("the command")
    jobstatus: int = always("0 pending, 1 done, 2 failed")
    jobprocstatus: int = always("progress in percent")
    jobresultcode: int = always("0, or the error's code")
    jobresulttype: str | None = says("object, once there is a result")
    jobresult: dict[str, Any] | None = says("the result, or errorcode and errortext")
    jobinstancetype: str | None = says("kind of the thing it is about")
    jobinstanceid: str | None = says("UUID of the thing it is about")
    accountid: str | None = says("UUID of the account it is done for")
    account: str | None = says("name of the account it is done for")
    userid: str | None = says("UUID of the user it is done for")
    created: datetime = always("when it began")
    completed: datetime | None = says("when it ended")


@frozen(kw_only=True)
class SuccessAnswer:
    """What commands answer that leave nothing to show."""

    success: bool = always("true")
    displaytext: str | None = says("a word on it")


@frozen(kw_only=True)
class ApiParameterAnswer:
    name: str = always("the name")
    description: str = always("what it means")
    type: str = always("string, uuid, boolean, integer, list, date or map")
    length: int = always("longest text accepted")
    required: bool = always("whether the command needs it")
    related: str | None = says("commands whose answers hold such an id")


@frozen(kw_only=True)
class ApiFieldAnswer:
    name: str = always("the key")
    description: str = always("what it means")
    type: str = always("type of its value")
    response: list[ApiFieldAnswer] | None = says("keys of the object in it")


@frozen(kw_only=True)
class ApiAnswer:
    """A command of this API."""

    name: str = always("the name")
    description: str = always("what it does")
    since: str | None = says("release that brought it")
    isasync: bool = always("whether its result comes with queryAsyncJobResult")
    related: str = always("commands about the same things")
    params: list[ApiParameterAnswer] = always("what it takes")
    response: list[ApiFieldAnswer] = always("what it answers")
    type: str | None = says("unused")
