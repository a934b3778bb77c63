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
    type: str = required_key("what kind of thing, TEMPLATE.DOWNLOAD.FAILED for one")
    level: str = required_key("INFO, WARN or ERROR")
    state: str = required_key("Completed: an event is written when the thing has happened")
    description: str = required_key("what happened, in words")
    account: str | None = optional_key("whose it is")
    username: str | None = optional_key("who did it")
    resourceid: str | None = optional_key("UUID of what it is about")
    resourcetype: str | None = optional_key("Template, Iso, VirtualMachine, SystemVm or ConsoleSession")
    requestid: str | None = optional_key(
        "the call it came of, as in every log; an addition to CloudStack's keys"
    )
    created: datetime = required_key("when")
    createdms: int = required_key("when, in milliseconds since 1970; an addition to CloudStack's keys")
