# SPDX-License-Identifier: Apache-2.0
"""`usagerecord` and `usagetype` objects, and `accountusage` objects, which CloudStack does not have."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.tags import TagAnswer


@frozen(kw_only=True)
class AccountUsageAnswer:
    """What an account uses."""

    account: str = required_key("the account")
    accountid: str = required_key("its UUID")
    domainid: str = required_key("its domain's UUID")
    domain: str = required_key("its domain")
    storedbytes: int = required_key("bytes of images, snapshots and recordings, every copy on every store")
    servedbytes: int = required_key("bytes that were ever downloaded by links of secondary storage VMs")
    consoleminutes: int = required_key("whole minutes that its consoles were ever open")


@frozen(kw_only=True)
class UsageTypeAnswer:
    id: int = required_key("CloudStack's number")
    name: str = required_key("its name, such as VOLUME")
    description: str = required_key("what is counted")


@frozen(kw_only=True)
class UsageRecordAnswer:
    """An object that an account had in a period, or in a part of it."""

    account: str = required_key("the account")
    accountid: str = required_key("its UUID")
    domainid: str = required_key("its domain's UUID")
    domain: str = required_key("its domain")
    domainpath: str = required_key("path of its domain")
    zoneid: str | None = optional_key("UUID of the zone")
    description: str = required_key("the type and the object's name")
    usage: str = required_key("how long it existed in the period, such as 24 Hrs")
    usagetype: int = required_key("the type; see listUsageTypes")
    rawusage: str = required_key("the same in hours, without the unit")
    usageid: str = required_key("UUID of the object, which can be deleted since")
    virtualmachineid: str | None = optional_key("the same, of a VM")
    name: str = required_key("the object's name")
    templateid: str | None = optional_key("of a VM: UUID of its template")
    size: int | None = optional_key("bytes: of a volume its size, of what is on image stores its file's")
    virtualsize: int | None = optional_key("bytes that a VM sees of an image or a snapshot")
    cpunumber: int | None = optional_key("of a VM: its vCPUs, now or at last")
    memory: int | None = optional_key("of a VM: its memory in MiB, now or at last")
    startdate: datetime = required_key("the begin of the period that was asked for")
    enddate: datetime = required_key("its last second; of a period that has not ended, the current time")
    tags: list[TagAnswer] = required_key("its tags, with includetags=true")
