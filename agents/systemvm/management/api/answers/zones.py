# SPDX-License-Identifier: Apache-2.0
"""`zone`, `host`, `serviceoffering` and `capability` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class ZoneAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    description: str | None = optional_key("a description for people")
    networktype: str = required_key("Advanced or Basic")
    allocationstate: str = required_key("Enabled or Disabled")
    dns1: str | None = optional_key("first name server for VMs")
    dns2: str | None = optional_key("second name server for VMs")
    internaldns1: str | None = optional_key("first name server for system VMs")
    internaldns2: str | None = optional_key("second name server for system VMs")
    ip6dns1: str | None = optional_key("first IPv6 name server")
    ip6dns2: str | None = optional_key("second IPv6 name server")
    domain: str | None = optional_key("names of the public CA's certificates are below it")
    securitygroupsenabled: bool = required_key("always false")
    localstorageenabled: bool = required_key("whether VMs' disks are on their host")
    dhcpprovider: str | None = optional_key("who answers DHCP")
    type: str = required_key("Core")


@frozen(kw_only=True)
class HostAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    state: str = required_key("Creating, Connecting, Up, Down, Disconnected, Alert, Removed or Error")
    type: str = required_key("Routing, SecondaryStorageVM or ConsoleProxy")
    ipaddress: str | None = optional_key("its address; of a system VM, that on the management network")
    hypervisor: str | None = optional_key("KVM, XenServer or VMware, of a hypervisor host")
    version: str | None = optional_key("version of the software on it")
    zoneid: str | None = optional_key("the zone's UUID")
    zonename: str | None = optional_key("the zone's name")
    podid: str | None = optional_key("the pod's UUID; none of a host in no cluster")
    podname: str | None = optional_key("the pod's name")
    clusterid: str | None = optional_key("the cluster's UUID")
    clustername: str | None = optional_key("the cluster's name")
    cpunumber: int | None = optional_key("its processors, of KVM")
    ueficapability: bool | None = optional_key("whether its VMs can boot by UEFI, of KVM")
    memorytotal: int | None = optional_key("its memory in bytes, of KVM")
    memoryallocated: int | None = optional_key("the same as memoryallocatedbytes")
    memoryallocatedbytes: int | None = optional_key("memory of the VMs that run there, of KVM")
    resourcestate: str = required_key("Enabled")
    arch: str | None = optional_key("processor architecture")
    created: datetime = required_key("since when it is known")
    disconnected: datetime | None = optional_key("when it was last lost")
    reason: str | None = optional_key("why it is not Up; an addition to CloudStack's keys")
    hint: str | None = optional_key("what to do about it; an addition to CloudStack's keys")
    lastpinged: datetime | None = optional_key("when it last answered")
    url: str | None = optional_key("of a host's own API; this and what follows are additions")
    username: str | None = optional_key("account that is used there")
    fingerprint: str | None = optional_key("of its certificate, when no CA verifies it")
    consoleaddresses: list[str] | None = optional_key("that console proxies may reach, at port 443")
    virtualmachines: int | None = optional_key("how many VMs it has, system VMs included")
    vcpusallocated: int | None = optional_key("virtual CPUs of the VMs that run there, of KVM")


@frozen(kw_only=True)
class ServiceOfferingAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    displaytext: str = required_key("a description for people")
    cpunumber: int = required_key("virtual CPUs")
    cpuspeed: int = required_key("MHz of each")
    memory: int = required_key("memory in MiB")
    issystem: bool = required_key("whether it is for system VMs")
    defaultuse: bool = required_key("always false")
    iscustomized: bool = required_key("always false")
    offerha: bool = required_key("always false")
    storagetype: str = required_key("local or shared")
    provisioningtype: str = required_key("thin, sparse or fat")
    storagetags: str | None = optional_key("tags of the storage pools that take its root disks")
    limitcpuuse: bool = required_key("always false")
    isvolatile: bool = required_key("always false")
    iscustomizediops: bool = required_key("always false")
    dynamicscalingenabled: bool = required_key("always false")
    created: datetime = required_key("when it was created")


@frozen(kw_only=True)
class CapabilityAnswer:
    cloudstackversion: str = required_key("the CloudStack release that this API follows")
    systemvmversion: str = required_key("this daemon's version; an addition to CloudStack's keys")
    securitygroupsenabled: bool = required_key("always false")
    supportELB: str = required_key("always false")
    userpublictemplateenabled: bool = required_key("whether users may make templates public")
    allowusercreateprojects: bool = required_key("always false")
    customdiskofferingminsize: int = required_key("always 1")
    customdiskofferingmaxsize: int = required_key("in GiB")
    regionsecondaryenabled: bool = required_key("always false")
    kvmsnapshotenabled: bool = required_key("always true")
    allowuserviewdestroyedvm: bool = required_key("whether the caller sees VMs that are destroyed")
    allowuserexpungerecovervm: bool = required_key("whether the caller recovers and expunges VMs")
    apilimitinterval: int | None = optional_key("the interval of apilimitmax in seconds")
    apilimitmax: int | None = optional_key("calls allowed an interval, when limited")
