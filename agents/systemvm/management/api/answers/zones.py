# SPDX-License-Identifier: Apache-2.0
"""`zone`, `host`, `serviceoffering` and `capability` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class ZoneAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    description: str | None = says("a description for people")
    networktype: str = always("Advanced or Basic")
    allocationstate: str = always("Enabled or Disabled")
    dns1: str | None = says("first name server for VMs")
    dns2: str | None = says("second name server for VMs")
    internaldns1: str | None = says("first name server for system VMs")
    internaldns2: str | None = says("second name server for system VMs")
    securitygroupsenabled: bool = always("always false")
    localstorageenabled: bool = always("whether VMs' disks are on their host")
    dhcpprovider: str | None = says("who answers DHCP")
    type: str = always("Core")


@frozen(kw_only=True)
class HostAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    state: str = always("Creating, Connecting, Up, Down, Disconnected, Alert, Removed or Error")
    type: str = always("Routing, SecondaryStorageVM or ConsoleProxy")
    ipaddress: str | None = says("its address")
    hypervisor: str | None = says("KVM, of a hypervisor host")
    version: str | None = says("version of the software on it")
    zoneid: str | None = says("the zone's UUID")
    zonename: str | None = says("the zone's name")
    resourcestate: str = always("Enabled")
    arch: str | None = says("processor architecture")
    created: datetime = always("since when it is known")
    disconnected: datetime | None = says("when it was last lost")
    reason: str | None = says("why an agent is not Up; an addition to CloudStack's keys")
    hint: str | None = says("what to do about it; an addition to CloudStack's keys")
    lastpinged: datetime | None = says("when it was last heard of")


@frozen(kw_only=True)
class ServiceOfferingAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    displaytext: str = always("a description for people")
    cpunumber: int = always("virtual CPUs")
    cpuspeed: int = always("MHz of each")
    memory: int = always("memory in MiB")
    issystem: bool = always("whether it is for system VMs")
    defaultuse: bool = always("always false")
    iscustomized: bool = always("always false")
    offerha: bool = always("always false")
    storagetype: str = always("local or shared")
    provisioningtype: str = always("thin: disks are linked clones")


@frozen(kw_only=True)
class CapabilityAnswer:
    cloudstackversion: str = always("the CloudStack release that this API follows")
    systemvmversion: str = always("this daemon's version; an addition to CloudStack's keys")
    securitygroupsenabled: bool = always("always false")
    supportELB: str = always("always false")
    userpublictemplateenabled: bool = always("whether users may make templates public")
    allowusercreateprojects: bool = always("always false")
    customdiskofferingminsize: int = always("always 1")
    customdiskofferingmaxsize: int = always("in GiB")
    regionsecondaryenabled: bool = always("always false")
    kvmsnapshotenabled: bool = always("always false")
    allowuserviewdestroyedvm: bool = always("always false")
    apilimitmax: int | None = says("calls allowed an interval, when limited")
