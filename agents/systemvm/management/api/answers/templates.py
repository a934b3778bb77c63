# SPDX-License-Identifier: Apache-2.0
"""`template` and `iso` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class DownloadDetail:
    """Where one copy of a template stands, per image store."""

    datastore: str = always("name of the image store")
    download_percent: str = always("how much has arrived", key="downloadPercent")
    download_state: str = always("state of the copy", key="downloadState")


@frozen(kw_only=True)
class TemplateAnswer:
    """A template or an ISO."""

    id: str = always("the UUID")
    name: str = always("the name")
    displaytext: str = always("a description for people")
    format: str = always("QCOW2, RAW or ISO")
    isready: bool = always("true once VMs can be made from it")
    status: str = always("progress, result or error, in words")
    hint: str | None = says("what to do about an error; an addition to CloudStack's keys")
    url: str | None = says("where it is downloaded from, without user and password")
    checksum: str | None = says("the digest of the file as downloaded, in hexadecimal without its algorithm")
    size: int | None = says("virtual size in bytes")
    physicalsize: int | None = says("size on secondary storage in bytes")
    downloaddetails: list[DownloadDetail] = always("state per image store")
    bootable: bool = always("whether it can be booted from")
    ispublic: bool = always("whether other accounts may use it")
    isfeatured: bool = always("whether it is featured")
    isextractable: bool = always("whether it may be downloaded from the cloud")
    passwordenabled: bool = always("whether guests take passwords from the cloud")
    sshkeyenabled: bool = always("always false: guests take no SSH keys from the cloud")
    isdynamicallyscalable: bool = always("always false")
    bits: int = always("always 64")
    requireshvm: bool = always("whether it needs hardware virtualization")
    cross_zones: bool = always("whether it is in every zone", key="crossZones")
    directdownload: bool = always("whether hosts download it themselves")
    deployasis: bool = always("always false")
    forcks: bool = always("always false")
    templatetype: str = always("USER, SYSTEM or BUILTIN")
    hypervisor: str | None = says("for which hypervisor")
    ostypeid: str | None = says("UUID of its operating system; see listOsTypes")
    ostypename: str = always("its operating system")
    arch: str | None = says("processor architecture")
    created: datetime = always("when it was registered")
    removed: datetime | None = says("when it was deleted")
    zoneid: str | None = says("the zone's UUID")
    zonename: str | None = says("the zone's name")
    accountid: str = always("the owning account's UUID")
    account: str = always("the owning account")
    domainid: str = always("the owner's domain UUID")
    domain: str = always("the owner's domain")
    domainpath: str = always("the path of the owner's domain")
    details: dict[str, str] = always("further settings")
