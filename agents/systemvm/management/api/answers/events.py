# SPDX-License-Identifier: Apache-2.0
"""`event` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class EventAnswer:
    """Something that happened."""

    id: str = required_key("the UUID")
    type: str = required_key("type of the event, for example TEMPLATE.DOWNLOAD.FAILED")
    level: str = required_key("INFO, WARN or ERROR")
    state: str = required_key("always Completed: an event is recorded afterwards")
    description: str = required_key("description of what happened")
    account: str | None = optional_key("name of the account")
    domainid: str | None = optional_key("the domain of that account")
    domain: str | None = optional_key("the domain's name")
    username: str | None = optional_key("name of the user who caused it")
    resourceid: str | None = optional_key("UUID of the resource")
    resourcetype: str | None = optional_key("Template, Iso, VirtualMachine, SystemVm or ConsoleSession")
    requestid: str | None = optional_key(
        "request id of the call that caused it; an addition to CloudStack's keys"
    )
    created: datetime = required_key("when")
    archived: bool = required_key("whether archiveEvents has taken it out of the list")
    createdms: int = required_key("when, in milliseconds since 1970; an addition to CloudStack's keys")
