# SPDX-License-Identifier: Apache-2.0
"""`volume` and `diskoffering` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class VolumeAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    type: str = always("ROOT")
    state: str = always("Allocated, Creating, Ready or Destroyed")
    size: int | None = says("virtual size in bytes, once it is known")
    account: str = always("the owning account")
    domainid: str = always("the owner's domain UUID")
    domain: str = always("the owner's domain")
    zoneid: str | None = says("the zone's UUID")
    zonename: str | None = says("the zone's name")
    hypervisor: str = always("KVM")
    storagetype: str = always("local")
    storageid: str | None = says("UUID of the storage pool it is in; administrators only")
    storage: str | None = says("name of the storage pool it is in; administrators only")
    provisioningtype: str = always("thin")
    deviceid: int = always("device number on its VM")
    virtualmachineid: str | None = says("UUID of its VM")
    vmname: str | None = says("name of its VM")
    vmdisplayname: str | None = says("display name of its VM")
    vmstate: str | None = says("state of its VM")
    templateid: str | None = says("UUID of the template it is a clone of")
    templatename: str | None = says("name of that template")
    isextractable: bool = always("always false")
    destroyed: bool = always("whether it is destroyed")
    created: datetime = always("when it was made")


@frozen(kw_only=True)
class DiskOfferingAnswer:
    """None exists in this release: a machine has its root disk only."""

    id: str = always("the UUID")
    name: str = always("the name")
    displaytext: str = always("a description for people")
    disksize: int = always("size in GiB")
    iscustomized: bool = always("whether its user chooses the size")
    storagetype: str = always("local or shared")
    provisioningtype: str = always("thin")
