# SPDX-License-Identifier: Apache-2.0
"""`consolesession` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class ConsoleSessionAnswer:
    """A link to a console, and the session that it opened."""

    id: str = required_key("the UUID")
    created: datetime = required_key("when the link was created")
    domain: str = required_key("domain of the account that created it")
    domainid: str = required_key("the domain's UUID")
    domainpath: str = required_key("the domain's path")
    account: str = required_key("account of the user who created it")
    accountid: str = required_key("the account's UUID")
    user: str = required_key("name of the user who created it")
    userid: str = required_key("the user's UUID")
    virtualmachineid: str = required_key("UUID of the virtual machine")
    virtualmachinename: str = required_key("name of the virtual machine")
    hostid: str | None = optional_key("UUID of the virtual machine's host")
    hostname: str | None = optional_key("name of the virtual machine's host")
    kind: str = required_key("screen or serial; an addition")
    acquired: datetime | None = optional_key("when the link was opened")
    removed: datetime | None = optional_key("when the link or the session ended")
    consoleendpointcreatoraddress: str | None = optional_key("address that the link was created from")
    clientaddress: str | None = optional_key("address that the link was opened from")
    consoleproxy: str | None = optional_key("name of the console proxy; an addition to CloudStack's keys")
    connected: bool | None = optional_key("whether a browser has it open now; an addition")
    idleseconds: float | None = optional_key("seconds since the last input of its user; an addition")
    sentbytes: int = required_key("bytes that the browser received; an addition")
    receivedbytes: int = required_key("bytes that the browser sent; an addition")
    watches: str | None = optional_key("the session that it watches, for an administrator; an addition")
    closecode: str | None = optional_key("why it ended, for programs; an addition")
    closereason: str | None = optional_key("why it ended; an addition")
