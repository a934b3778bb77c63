# SPDX-License-Identifier: Apache-2.0
"""Parts of a zone: `pod`, `cluster`, `storagepool`, `physicalnetwork`, `imagestore` and others."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class PodAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    gateway: str | None = optional_key("gateway of the management network")
    netmask: str = required_key("netmask of the management network")
    startip: list[str] = required_key("first address of each management range")
    endip: list[str] = required_key("last address of each management range")
    addressesused: int = required_key("addresses in use; this and the next are additions")
    addressestotal: int = required_key("addresses in all")
    allocationstate: str = required_key("Enabled or Disabled")


@frozen(kw_only=True)
class ClusterAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    podid: str = required_key("the pod's UUID")
    podname: str = required_key("the pod's name")
    hypervisortype: str = required_key("KVM")
    clustertype: str = required_key("CloudManaged")
    allocationstate: str = required_key("Enabled or Disabled")
    managedstate: str = required_key("Managed")
    arch: str | None = optional_key("processor architecture of its hosts")


@frozen(kw_only=True)
class StoragePoolAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    podid: str | None = optional_key("the pod's UUID; none of a pool of the whole zone")
    podname: str | None = optional_key("the pod's name")
    clusterid: str | None = optional_key("the cluster's UUID; none of a pool of the whole zone")
    clustername: str | None = optional_key("the cluster's name")
    hypervisor: str = required_key("KVM")
    type: str = required_key("Filesystem, SharedMountPoint or NetworkFilesystem")
    scope: str = required_key("HOST, CLUSTER or ZONE: whose machines can use it")
    state: str = required_key(
        "Up, Disabled, PrepareForMaintenance, Maintenance or ErrorInMaintenance; Down when its directory "
        "cannot be used"
    )
    ipaddress: str | None = optional_key(
        "the host's management address, or the NFS server; localhost of a shared mount point"
    )
    path: str = required_key("the directory on the host, or the export")
    tags: str | None = optional_key("tags that offerings ask for")
    disksizetotal: int | None = optional_key("capacity of its file system in bytes")
    disksizeused: int | None = optional_key("bytes in use on its file system")
    disksizeallocated: int = required_key("sum of the virtual sizes of its volumes in bytes")
    overprovisionfactor: str = required_key("how many times its capacity its volumes can have")
    provider: str = required_key("DefaultPrimary")
    managed: bool = required_key("always false: a volume is a file")
    created: datetime = required_key("when it was created; a host's own: when the host was registered")


@frozen(kw_only=True)
class PhysicalNetworkAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name; of a network of a zone's file, its bridge")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    broadcastdomainrange: str = required_key("ZONE")
    state: str = required_key("Enabled")
    isolationmethods: str = required_key("VLAN")
    vlan: str | None = optional_key("VLANs of networks of accounts, such as 100-200,300")


@frozen(kw_only=True)
class TrafficTypeAnswer:
    id: str = required_key("the UUID")
    traffictype: str = required_key("Management, Public, Guest, Storage or Control")
    physicalnetworkid: str = required_key("UUID of the physical network that carries it")
    physicalnetworkname: str = required_key("its name; this and the next two are additions")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    kvmnetworklabel: str = required_key("label on KVM hosts")
    xennetworklabel: str | None = optional_key("label on XenServer hosts")
    vmwarenetworklabel: str | None = optional_key("label on VMware hosts")


@frozen(kw_only=True)
class StorageIpRangeAnswer:
    id: str = required_key("the UUID")
    zoneid: str = required_key("the zone's UUID")
    podid: str | None = optional_key("the pod's UUID")
    podname: str | None = optional_key("the pod's name; an addition to CloudStack's keys")
    vlan: int | None = optional_key("the VLAN; omitted if it is untagged")
    gateway: str | None = optional_key("gateway of the storage network")
    netmask: str | None = optional_key("netmask of the storage network")
    startip: str | None = optional_key("first address")
    endip: str | None = optional_key("last address")
    ip6cidr: str | None = optional_key("the IPv6 network; an addition to CloudStack's keys, as the next ones")
    ip6gateway: str | None = optional_key("its gateway")
    startipv6: str | None = optional_key("first IPv6 address")
    endipv6: str | None = optional_key("last IPv6 address")
    addressesused: int = required_key("addresses in use; this and the next are additions")
    addressestotal: int = required_key("addresses in all")


@frozen(kw_only=True)
class VlanIpRangeAnswer:
    id: str = required_key("the UUID")
    zoneid: str = required_key("the zone's UUID")
    physicalnetworkid: str | None = optional_key("UUID of the physical network that carries it")
    networkid: str | None = optional_key("UUID of the guest network; none of public addresses")
    vlan: str = required_key("the VLAN; vlan://untagged without one")
    gateway: str | None = optional_key("gateway of the public network")
    netmask: str | None = optional_key("netmask of the public network; omitted for IPv6 alone")
    cidr: str | None = optional_key("the public network")
    startip: str | None = optional_key("first address")
    endip: str | None = optional_key("last address")
    ip6cidr: str | None = optional_key("the IPv6 network")
    ip6gateway: str | None = optional_key("its gateway")
    startipv6: str | None = optional_key("first IPv6 address")
    endipv6: str | None = optional_key("last IPv6 address")
    forvirtualnetwork: bool = required_key("true: the addresses are public")
    forsystemvms: bool = required_key("whether the range is for system VMs")
    addressesused: int = required_key("addresses in use; this and the next are additions")
    addressestotal: int = required_key("addresses in all")


@frozen(kw_only=True)
class HypervisorAnswer:
    name: str = required_key("the hypervisor's name")
