# SPDX-License-Identifier: Apache-2.0
"""`template` and `iso` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.tags import TagAnswer


@frozen(kw_only=True)
class DownloadDetail:
    """Where one copy of a template stands, per image store."""

    datastore: str = required_key("name of the image store")
    download_percent: str = required_key("percentage that is downloaded", key="downloadPercent")
    download_state: str = required_key("state of the copy", key="downloadState")
    receivedbytes: int | None = optional_key("bytes received so far; an addition to CloudStack's keys")
    totalbytes: int | None = optional_key("bytes in all, once known; an addition to CloudStack's keys")
    systemvm: str | None = optional_key("the SSVM that downloads it; an addition to CloudStack's keys")


@frozen(kw_only=True)
class TemplatePermissionsAnswer:
    id: str = required_key("the UUID of the template or ISO")
    ispublic: bool = required_key("whether every account can use it")
    domainid: str | None = optional_key("UUID of the owner's domain, for administrators")
    account: list[str] = required_key("names of the accounts that it is shared with")


@frozen(kw_only=True)
class TemplateAnswer:
    """A template or an ISO."""

    id: str = required_key("the UUID")
    tags: list[TagAnswer] = required_key("keys and values that its owner gave it; see createTags")
    name: str = required_key("the name")
    displaytext: str = required_key("a description for people")
    format: str = required_key("QCOW2, RAW, VHD, VHDX, VMDK, OVA, TAR or ISO")
    isready: bool = required_key("true once VMs can be made from it")
    status: str = required_key("progress, result or error, as text for people")
    hint: str | None = optional_key("what to do about an error; an addition to CloudStack's keys")
    url: str | None = optional_key("URL that it is downloaded from, without user and password")
    checksum: str | None = optional_key(
        "the digest of the file as downloaded, in hexadecimal without its algorithm"
    )
    size: int | None = optional_key("virtual size in bytes")
    physicalsize: int | None = optional_key("size on secondary storage in bytes")
    downloaddetails: list[DownloadDetail] = required_key("state per image store")
    bootable: bool = required_key("whether it can be booted from")
    ispublic: bool = required_key("whether other accounts can use it")
    isfeatured: bool = required_key("whether it is featured")
    isextractable: bool = required_key("whether it can be downloaded from the cloud")
    passwordenabled: bool = required_key("whether guests take passwords from the cloud")
    sshkeyenabled: bool = required_key("always false: guests take no SSH keys from the cloud")
    isdynamicallyscalable: bool = required_key("always false")
    bits: int = required_key("always 64")
    requireshvm: bool = required_key("whether it needs hardware virtualization")
    cross_zones: bool = required_key("whether it is in every zone", key="crossZones")
    directdownload: bool = required_key("whether hosts download it themselves")
    deployasis: bool = required_key("always false")
    forcks: bool = required_key("always false")
    templatetype: str = required_key("USER, SYSTEM or BUILTIN")
    hypervisor: str | None = optional_key("the hypervisor")
    ostypeid: str | None = optional_key("UUID of its operating system; see listOsTypes")
    ostypename: str = required_key("its operating system")
    arch: str | None = optional_key("processor architecture")
    created: datetime = required_key("when it was registered")
    removed: datetime | None = optional_key("when it was deleted")
    zoneid: str | None = optional_key("the zone's UUID")
    zonename: str | None = optional_key("the zone's name")
    accountid: str = required_key("the owning account's UUID")
    account: str = required_key("the owning account")
    domainid: str = required_key("the owner's domain UUID")
    domain: str = required_key("the owner's domain")
    domainpath: str = required_key("the path of the owner's domain")
    details: dict[str, str] = required_key("further settings")
