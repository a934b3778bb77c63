# SPDX-License-Identifier: Apache-2.0
"""`snapshot` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.tags import TagAnswer


@frozen(kw_only=True)
class SnapshotAnswer:
    """A snapshot of a volume."""

    id: str = required_key("the UUID")
    tags: list[TagAnswer] = required_key("keys and values that its owner gave it; see createTags")
    name: str = required_key("the name")
    state: str = required_key("Allocated, Creating, BackingUp, BackedUp, Copying or Error")
    reason: str | None = optional_key("why it failed; an addition to CloudStack's keys")
    hint: str | None = optional_key("what to do about it; an addition to CloudStack's keys")
    account: str = required_key("the owning account")
    domainid: str = required_key("the owner's domain UUID")
    domain: str = required_key("the owner's domain")
    zoneid: str | None = optional_key("the zone's UUID")
    zonename: str | None = optional_key("the zone's name")
    volumeid: str = required_key("UUID of its volume")
    volumename: str = required_key("name of its volume")
    volumetype: str = required_key("ROOT or DATADISK")
    volumestate: str = required_key("state of its volume; Destroyed when it was deleted")
    snapshottype: str = required_key("MANUAL, or the interval of the policy that it was taken by")
    intervaltype: str = required_key("the same")
    locationtype: str = required_key("SECONDARY")
    revertable: bool = required_key("whether its volume can be reverted to it")
    virtualsize: int | None = optional_key("size of the volume in bytes")
    physicalsize: int | None = optional_key("bytes of its file: what was moved to secondary storage")
    parentid: str | None = optional_key(
        "the snapshot it is an increment on; an addition to CloudStack's keys"
    )
    copyof: str | None = optional_key(
        "the snapshot in another zone it is a copy of; an addition to CloudStack's keys"
    )
    datastoreid: str | None = optional_key("UUID of its image store; administrators only")
    datastorename: str | None = optional_key("name of its image store; administrators only")
    created: datetime = required_key("when it was requested")
