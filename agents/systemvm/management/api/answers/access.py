# SPDX-License-Identifier: Apache-2.0
"""Answers of `login`, `logout`, `createConsoleEndpoint` and `queryAsyncJobResult`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class LoginAnswer:
    username: str = required_key("the user's name")
    userid: str = required_key("the user's UUID")
    account: str = required_key("the account's name")
    domainid: str = required_key("the domain's UUID")
    type: str = required_key("0 for users, 1 for administrators")
    firstname: str = required_key("first name")
    lastname: str = required_key("last name")
    timeout: int = required_key("seconds of idleness after which the session ends")
    timezone: str = required_key("UTC")
    timezoneoffset: str = required_key("0.0")
    registered: str = required_key("always false")
    sessionkey: str = required_key("session key, to be sent with every later call")
    is2faenabled: str = required_key("whether this login needs a second factor, too")
    is2faverified: str = required_key(
        "whether the session can be used; false: verify the second factor first"
    )
    providerfor2fa: str | None = optional_key("totp; none while the user has not set up a second factor")
    issuerfor2fa: str | None = optional_key("name that the authenticator app shows beside the user's")


@frozen(kw_only=True)
class LogoutAnswer:
    description: str = required_key("success")


@frozen(kw_only=True)
class WebSocketAnswer:
    """For clients that use RFB over WebSocket themselves."""

    token: str | None = optional_key("token, which the first connection spends; none with success=false")
    host: str = required_key("host to connect to")
    port: str = required_key("port to connect to")
    path: str = required_key("path of the WebSocket")
    extra: str | None = optional_key("the additional secret, if one was given")


@frozen(kw_only=True)
class ConsoleEndpointAnswer:
    success: bool = required_key("whether there is a console")
    details: str | None = optional_key("why there is none")
    hint: str | None = optional_key("what to do about it; an addition to CloudStack's keys")
    url: str | None = optional_key("URL for a browser; it works once, within a minute")
    websocket: WebSocketAnswer | None = optional_key(
        "the same console for other clients; with success=false, where it is when clientaddress is given"
    )


@frozen(kw_only=True)
class JobAnswer:
    """An asynchronous job."""

    jobid: str = required_key("the UUID")
    cmd: str = required_key("the command")
    jobstatus: int = required_key("0 pending, 1 done, 2 failed")
    jobprocstatus: int = required_key("progress in percent")
    jobprogresstext: str | None = optional_key("what it does; an addition to CloudStack's keys")
    jobresultcode: int = required_key("0, or the error's code")
    jobresulttype: str | None = optional_key("object, once there is a result")
    jobresult: dict[str, Any] | None = optional_key("the result, or errorcode and errortext")
    jobinstancetype: str | None = optional_key("type of the object of the job")
    jobinstanceid: str | None = optional_key("UUID of the object of the job")
    accountid: str | None = optional_key("UUID of the account that started it")
    account: str | None = optional_key("name of the account that started it")
    userid: str | None = optional_key("UUID of the user who started it")
    created: datetime = required_key("when it began")
    completed: datetime | None = optional_key("when it ended")


@frozen(kw_only=True)
class SuccessAnswer:
    """The answer of commands without an object to return."""

    success: bool = required_key("true")
    displaytext: str | None = optional_key("further information")


@frozen(kw_only=True)
class ApiParameterAnswer:
    name: str = required_key("the name")
    description: str = required_key("what it means")
    type: str = required_key("string, uuid, boolean, integer, list, date or map")
    length: int = required_key("maximum length in characters")
    required: bool = required_key("whether it is required")
    related: str | None = optional_key("commands whose answers contain such an id")


@frozen(kw_only=True)
class ApiFieldAnswer:
    name: str = required_key("the key")
    description: str = required_key("what it means")
    type: str = required_key("type of its value")
    response: list[ApiFieldAnswer] | None = optional_key("keys of the object")


@frozen(kw_only=True)
class ApiAnswer:
    """A command of this API."""

    name: str = required_key("the name")
    description: str = required_key("what it does")
    since: str | None = optional_key("release that introduced it")
    isasync: bool = required_key("whether its result comes with queryAsyncJobResult")
    related: str = required_key("commands for the same objects")
    params: list[ApiParameterAnswer] = required_key("its parameters")
    response: list[ApiFieldAnswer] = required_key("keys of its response")
    type: str | None = optional_key("unused")
