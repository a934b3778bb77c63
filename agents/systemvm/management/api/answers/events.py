# SPDX-License-Identifier: Apache-2.0
"""`event` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class EventAnswer:
    """Something that happened."""

    id: str = always("the UUID")
    type: str = always("what kind of thing, TEMPLATE.DOWNLOAD.FAILED for one")
    level: str = always("INFO, WARN or ERROR")
    state: str = always("Completed: an event is written when the thing has happened")
    description: str = always("what happened, in words")
    account: str | None = says("whose it is")
    username: str | None = says("who did it")
    resourceid: str | None = says("UUID of what it is about")
    resourcetype: str | None = says("Template, Iso, VirtualMachine, SystemVm or ConsoleSession")
    requestid: str | None = says("the call it came of, as in every log; an addition to CloudStack's keys")
    created: datetime = always("when")
    createdms: int = always("when, in milliseconds since 1970; an addition to CloudStack's keys")
