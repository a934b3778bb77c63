# SPDX-License-Identifier: Apache-2.0
"""What a zone is made of: `pod`, `cluster`, `storagepool`, `physicalnetwork`, `imagestore` and others."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class PodAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    gateway: str | None = says("gateway of the management network")
    netmask: str = always("netmask of the management network")
    startip: list[str] = always("first address of each management range")
    endip: list[str] = always("last address of each management range")
    allocationstate: str = always("Enabled or Disabled")


@frozen(kw_only=True)
class ClusterAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    podid: str = always("the pod's UUID")
    podname: str = always("the pod's name")
    hypervisortype: str = always("KVM")
    clustertype: str = always("CloudManaged")
    allocationstate: str = always("Enabled or Disabled")
    managedstate: str = always("Managed")
    arch: str | None = says("processor architecture of its hosts")


@frozen(kw_only=True)
class StoragePoolAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    podid: str = always("the pod's UUID")
    podname: str = always("the pod's name")
    clusterid: str = always("the cluster's UUID")
    clustername: str = always("the cluster's name")
    hypervisor: str = always("KVM")
    type: str = always("Filesystem: a directory of the host")
    scope: str = always("HOST: only machines of that host can use it")
    state: str = always("Up, or Down when its directory cannot be read")
    ipaddress: str | None = says("the host's management address")
    path: str = always("the directory on the host")
    disksizetotal: int | None = says("capacity of its file system in bytes")
    disksizeused: int | None = says("bytes in use on its file system")
    disksizeallocated: int = always("sum of the virtual sizes of its volumes in bytes")
    created: datetime = always("when the host was registered")


@frozen(kw_only=True)
class PhysicalNetworkAnswer:
    id: str = always("the UUID")
    name: str = always("the bridge of the host that carries it")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    broadcastdomainrange: str = always("ZONE")
    state: str = always("Enabled")


@frozen(kw_only=True)
class VlanIpRangeAnswer:
    id: str = always("the UUID")
    zoneid: str = always("the zone's UUID")
    physicalnetworkid: str = always("UUID of the physical network that carries it")
    vlan: str = always("the VLAN; vlan://untagged without one")
    gateway: str | None = says("gateway of the public network")
    netmask: str = always("netmask of the public network")
    cidr: str = always("the public network")
    startip: str = always("first address")
    endip: str = always("last address")
    forvirtualnetwork: bool = always("true: the addresses are public")
    forsystemvms: bool = always("whether the range is for system VMs")


@frozen(kw_only=True)
class ImageStoreAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    url: str = always("nfs://server/path")
    protocol: str = always("nfs")
    providername: str = always("NFS")
    scope: str = always("ZONE")
    readonly: bool = always("whether new templates are kept off it")
    disksizetotal: int | None = says("capacity in bytes, as its SSVM last measured it")
    disksizeused: int | None = says("bytes in use, as its SSVM last measured it")


@frozen(kw_only=True)
class HypervisorAnswer:
    name: str = always("the hypervisor's name")
