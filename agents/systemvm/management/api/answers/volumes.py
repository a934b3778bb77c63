# SPDX-License-Identifier: Apache-2.0
"""`volume` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.tags import TagAnswer


@frozen(kw_only=True)
class VolumeAnswer:
    id: str = required_key("the UUID")
    tags: list[TagAnswer] = required_key("keys and values that its owner gave it; see createTags")
    name: str = required_key("the name")
    type: str = required_key("ROOT or DATADISK")
    state: str = required_key(
        "Allocated, Creating, Ready, Destroyed; NotUploaded, Uploaded or UploadError of a file"
    )
    size: int | None = optional_key("virtual size in bytes, once it is known")
    account: str = required_key("the owning account")
    domainid: str = required_key("the owner's domain UUID")
    domain: str = required_key("the owner's domain")
    zoneid: str | None = optional_key("the zone's UUID")
    zonename: str | None = optional_key("the zone's name")
    hypervisor: str = required_key("KVM")
    storagetype: str = required_key("local or shared")
    storageid: str | None = optional_key("UUID of the storage pool it is in; administrators only")
    storage: str | None = optional_key("name of the storage pool it is in; administrators only")
    provisioningtype: str = required_key("thin, sparse or fat")
    deviceid: int | None = optional_key("device number on its VM")
    virtualmachineid: str | None = optional_key("UUID of its VM")
    vmname: str | None = optional_key("name of its VM")
    vmdisplayname: str | None = optional_key("display name of its VM")
    vmstate: str | None = optional_key("state of its VM")
    templateid: str | None = optional_key("UUID of the template it is a clone of")
    templatename: str | None = optional_key("name of that template")
    serviceofferingid: str | None = optional_key("of a root disk, UUID of its VM's size")
    serviceofferingname: str | None = optional_key("name of that size")
    diskofferingid: str | None = optional_key("UUID of the disk offering it was created by")
    diskofferingname: str | None = optional_key("name of that offering")
    diskofferingdisplaytext: str | None = optional_key("description of that offering")
    isextractable: bool = required_key("whether its owner can extract it, which its template decides")
    displayvolume: bool = required_key("always true")
    deleteprotection: bool = required_key("always false")
    destroyed: bool = required_key("whether it is destroyed")
    created: datetime = required_key("when it was made")
    attached: datetime | None = optional_key("since when it has been its VM's")
