# SPDX-License-Identifier: Apache-2.0
"""listPods, listClusters, listStoragePools, listPhysicalNetworks, listVlanIpRanges, listHypervisors: the
parts of a zone, for administrators."""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import frozen
from twisted.internet.threads import deferToThread

from systemvm.management.api.answers.infrastructure import (
    ClusterAnswer,
    HypervisorAnswer,
    PhysicalNetworkAnswer,
    PodAnswer,
    StoragePoolAnswer,
    VlanIpRangeAnswer,
)
from systemvm.management.api.command import ApiCall, Command, Handler, ResponseShape, paged
from systemvm.management.api.parameters import Parameter, ParameterType, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.zone_parts import (
    NetworksOf,
    cluster_of,
    matching,
    physical_network_of,
    pod_of,
    pool_of,
    public_range_of,
)
from systemvm.management.state import volumes, zones
from systemvm.management.state.database import Database

UNTAGGED = "vlan://untagged"

_ID = optional("id", ParameterType.UUID, "list only the one with this id")
_NAME = optional("name", ParameterType.STRING, "list only the one with this name")
_ZONE = optional("zoneid", ParameterType.UUID, "list only those of this zone")
_POD = optional("podid", ParameterType.UUID, "list only those of this pod")
_CLUSTER = optional("clusterid", ParameterType.UUID, "list only those of this cluster")


@frozen
class DiskUsage:
    """Size of a file system in bytes."""

    total_bytes: int
    used_bytes: int


def disk_usage(directory: Path) -> DiskUsage | None:
    """Return the usage of a directory's file system; None when it cannot be read. It blocks."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return DiskUsage(usage.total, usage.used)


class InfrastructureCommands:
    """Lists from the zones' files and the rows of hosts and stores."""

    def __init__(self, database: Database, networks_of: NetworksOf, primary: Path) -> None:
        self._database = database
        self._networks_of = networks_of
        self._primary = primary

    def commands(self) -> tuple[Command, ...]:
        text = ParameterType.STRING
        return (
            _listing("listPods", self._pods, "Lists pods.", PodAnswer, "pod", _ID, _NAME, _ZONE),
            _listing(
                "listClusters", self._clusters, "Lists clusters.", ClusterAnswer, "cluster",
                _ID, _NAME, _ZONE, _POD, optional("hypervisor", text, "list only those of this hypervisor"),
            ),
            _listing(
                "listStoragePools", self._pools, "Lists primary storage pools.", StoragePoolAnswer,
                "storagepool", _ID, _NAME, _ZONE, _POD, _CLUSTER,
                optional("scope", text, "list only those of this scope"),
                optional("path", text, "list only the one at this path"),
                optional("ipaddress", text, "list only those of this address"),
            ),
            _listing(
                "listPhysicalNetworks", self._physical_networks, "Lists physical networks.",
                PhysicalNetworkAnswer, "physicalnetwork", _ID, _NAME, _ZONE,
            ),
            _listing(
                "listVlanIpRanges", self._ranges, "Lists ranges of public addresses.",
                VlanIpRangeAnswer, "vlaniprange", _ID, _ZONE,
                optional("physicalnetworkid", ParameterType.UUID, "list only those of this physical network"),
                optional("forvirtualnetwork", ParameterType.BOOLEAN, "true: only public ones; false: others"),
                optional("vlan", text, "list only those of this VLAN"),
            ),
            Command(
                "listHypervisors", self._hypervisors, "Lists the hypervisors of a zone or of all zones.",
                HypervisorAnswer, "hypervisor", ResponseShape.LIST, (_ZONE,), paged=False,
            ),
        )  # fmt: skip

    async def _pods(self, call: ApiCall) -> list[PodAnswer]:
        answers = []
        for zone in await self._database.read(zones.list_zones):
            network = self._networks_of(zone.name).management
            pod = pod_of(zone)
            answers.append(
                PodAnswer(
                    id=pod.id,
                    name=pod.name,
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    gateway=str(network.router) if network.router else None,
                    netmask=str(network.netmask),
                    startip=[str(network.pool.first)] if network.pool else [],
                    endip=[str(network.pool.last)] if network.pool else [],
                    allocationstate=zone.allocation_state,
                )
            )
        return matching(call, answers, "id", "name", "zoneid")

    async def _clusters(self, call: ApiCall) -> list[ClusterAnswer]:
        answers = []
        for zone in await self._database.read(zones.list_zones):
            pod, cluster = pod_of(zone), cluster_of(zone)
            answers.append(
                ClusterAnswer(
                    id=cluster.id,
                    name=cluster.name,
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    podid=pod.id,
                    podname=pod.name,
                    hypervisortype="KVM",
                    clustertype="CloudManaged",
                    allocationstate=zone.allocation_state,
                    managedstate="Managed",
                    arch=zone.arch,
                )
            )
        wanted = call.arguments.get("hypervisor", "KVM").lower()
        found = [answer for answer in answers if answer.hypervisortype.lower() == wanted]
        return matching(call, found, "id", "name", "zoneid", "podid")

    async def _pools(self, call: ApiCall) -> list[StoragePoolAnswer]:
        rows = {zone.id: zone for zone in await self._database.read(zones.list_zones)}
        allocated = await self._database.read(volumes.allocated_bytes_by_host)
        usage = await deferToThread(disk_usage, self._primary)
        answers = []
        for host in await self._database.read(zones.list_hosts):
            zone = rows.get(host.zone_id or 0)
            if zone is None:
                continue
            pool, pod, cluster = pool_of(host), pod_of(zone), cluster_of(zone)
            answers.append(
                StoragePoolAnswer(
                    id=pool.id,
                    name=pool.name,
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    podid=pod.id,
                    podname=pod.name,
                    clusterid=cluster.id,
                    clustername=cluster.name,
                    hypervisor=host.hypervisor,
                    type="Filesystem",
                    scope="HOST",
                    state="Up" if usage else "Down",
                    ipaddress=host.address,
                    path=str(self._primary),
                    disksizetotal=usage.total_bytes if usage else None,
                    disksizeused=usage.used_bytes if usage else None,
                    disksizeallocated=allocated.get(host.id, 0),
                    created=host.created,
                )
            )
        names = ("id", "name", "zoneid", "podid", "clusterid", "scope", "path", "ipaddress")
        return matching(call, answers, *names)

    async def _physical_networks(self, call: ApiCall) -> list[PhysicalNetworkAnswer]:
        answers: dict[str, PhysicalNetworkAnswer] = {}
        for zone in await self._database.read(zones.list_zones):
            for network in self._networks_of(zone.name).by_type().values():
                part = physical_network_of(zone, network)
                answers[part.id] = PhysicalNetworkAnswer(
                    id=part.id,
                    name=part.name,
                    zoneid=zone.uuid,
                    zonename=zone.name,
                    broadcastdomainrange="ZONE",
                    state="Enabled",
                )
        return matching(call, answers.values(), "id", "name", "zoneid")

    async def _ranges(self, call: ApiCall) -> list[VlanIpRangeAnswer]:
        answers = []
        for zone in await self._database.read(zones.list_zones):
            network = self._networks_of(zone.name).public
            if network.pool is None:
                continue
            answers.append(
                VlanIpRangeAnswer(
                    id=public_range_of(zone).id,
                    zoneid=zone.uuid,
                    physicalnetworkid=physical_network_of(zone, network).id,
                    vlan=UNTAGGED,
                    gateway=str(network.router) if network.router else None,
                    netmask=str(network.netmask),
                    cidr=str(network.cidr),
                    startip=str(network.pool.first),
                    endip=str(network.pool.last),
                    forvirtualnetwork=True,
                    forsystemvms=True,
                )
            )
        return matching(call, answers, "id", "zoneid", "physicalnetworkid", "forvirtualnetwork", "vlan")

    async def _hypervisors(self, call: ApiCall) -> list[HypervisorAnswer]:
        rows = {zone.id: zone.uuid for zone in await self._database.read(zones.list_zones)}
        wanted = call.arguments.get("zoneid")
        names = {
            host.hypervisor
            for host in await self._database.read(zones.list_hosts)
            if wanted is None or rows.get(host.zone_id or 0) == wanted
        }
        return [HypervisorAnswer(name=name) for name in sorted(names)]


def _listing(
    name: str, select: Handler, description: str, answer: type, object_name: str, *parameters: Parameter
) -> Command:
    return Command(
        name,
        paged(select),
        description,
        answer,
        object_name,
        ResponseShape.LIST,
        parameters,
        roles=ADMIN_ONLY,
    )
