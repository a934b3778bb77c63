# SPDX-License-Identifier: Apache-2.0
"""listPods, listClusters, listPhysicalNetworks, listVlanIpRanges, listHypervisors: the
parts of a zone, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from systemvm.management.api.answers.infrastructure import (
    ClusterAnswer,
    HypervisorAnswer,
    PhysicalNetworkAnswer,
    PodAnswer,
    StorageIpRangeAnswer,
    TrafficTypeAnswer,
    VlanIpRangeAnswer,
)
from systemvm.management.api.command import ApiCall, Command, Handler, ResponseShape, paged
from systemvm.management.api.commands import zone_answers
from systemvm.management.api.parameters import NO_REASONS, Parameter, ParameterType, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.zone_parts import matching
from systemvm.management.state import zones
from systemvm.management.state.database import Database

_ID = optional("id", ParameterType.UUID, "list only the one with this id")
_NAME = optional("name", ParameterType.STRING, "list only the one with this name")
_ZONE = optional("zoneid", ParameterType.UUID, "list only those of this zone")
_POD = optional("podid", ParameterType.UUID, "list only those of this pod")
_RANGE_KEYS = ("startip", "addressesused", "addressestotal")
_RANGE_TEXTS = ("startip", "endip", "gateway", "ip6cidr", "startipv6", "endipv6", "vlan")
_TRAFFIC_TEXTS = (
    "traffictype", "physicalnetworkname", "kvmnetworklabel", "xennetworklabel", "vmwarenetworklabel",
)  # fmt: skip


class InfrastructureCommands:
    """Lists of the rows of zones' parts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        text = ParameterType.STRING
        return (
            _listing(
                "listPods", self._pods, "Lists pods.", PodAnswer, "pod", _ID, _NAME, _ZONE,
                sortable=("name", "allocationstate"),
            ),
            _listing(
                "listClusters", self._clusters, "Lists clusters.", ClusterAnswer, "cluster",
                _ID, _NAME, _ZONE, _POD, optional("hypervisor", text, "list only those of this hypervisor"),
                sortable=("name", "podname", "hypervisortype", "allocationstate"),
            ),
            _listing(
                "listPhysicalNetworks", self._physical_networks, "Lists physical networks.",
                PhysicalNetworkAnswer, "physicalnetwork", _ID, _NAME, _ZONE, sortable=("name", "state"),
            ),
            _listing(
                "listVlanIpRanges", self._ranges, "Lists ranges of public addresses and of guest networks.",
                VlanIpRangeAnswer, "vlaniprange", _ID, _ZONE,
                optional("physicalnetworkid", ParameterType.UUID, "list only those of this physical network"),
                optional("networkid", ParameterType.UUID, "list only those of this guest network"),
                optional("forvirtualnetwork", ParameterType.BOOLEAN, "true: only public ones; false: others"),
                optional("vlan", text, "list only those of this VLAN, such as 100, vlan://100 or untagged"),
                optional(
                    "withoutaddresses", ParameterType.BOOLEAN,
                    "true: list guest networks without addresses, too; an addition",
                ),
                sortable=_RANGE_KEYS, refused=zone_answers.NOT_OF_VLANS,
            ),
            _listing(
                "listTrafficTypes", self._traffic_types, "Lists traffic types of physical networks.",
                TrafficTypeAnswer, "traffictype",
                optional("physicalnetworkid", ParameterType.UUID, "list only those of this physical network"),
                optional("zoneid", ParameterType.UUID, "list only those of this zone; an addition"),
                sortable=("traffictype", "physicalnetworkname", "kvmnetworklabel"),
            ),
            _listing(
                "listStorageNetworkIpRange", self._storage_ranges, "Lists ranges of storage addresses.",
                StorageIpRangeAnswer, "storagenetworkiprange", _ID, _ZONE, _POD, sortable=_RANGE_KEYS,
            ),
            Command(
                "listHypervisors", self._hypervisors, "Lists the hypervisors of a zone or of all zones.",
                HypervisorAnswer, "hypervisor", ResponseShape.LIST, (_ZONE,), paged=False,
            ),
        )  # fmt: skip

    async def _pods(self, call: ApiCall) -> list[PodAnswer]:
        answers = await self._database.read(zone_answers.pods)
        return matching(call, answers, "id", "name", "zoneid")

    async def _clusters(self, call: ApiCall) -> list[ClusterAnswer]:
        answers = await self._database.read(zone_answers.clusters)
        return matching(call, answers, "id", "name", "zoneid", "podid", hypervisor="hypervisortype")

    async def _physical_networks(self, call: ApiCall) -> list[PhysicalNetworkAnswer]:
        answers = await self._database.read(zone_answers.networks)
        return matching(call, answers, "id", "name", "zoneid")

    async def _traffic_types(self, call: ApiCall) -> list[TrafficTypeAnswer]:
        answers = await self._database.read(zone_answers.traffic, call.arguments.get("physicalnetworkid"))
        return matching(call, answers, "zoneid", searched=_TRAFFIC_TEXTS)

    async def _storage_ranges(self, call: ApiCall) -> list[StorageIpRangeAnswer]:
        answers = await self._database.read(zone_answers.storage_ranges)
        return matching(call, answers, "id", "zoneid", "podid", searched=_RANGE_TEXTS)

    async def _ranges(self, call: ApiCall) -> list[VlanIpRangeAnswer]:
        with_empty = call.arguments.flag("withoutaddresses", False)
        answers = await self._database.read(lambda each: zone_answers.ranges(each, with_empty=with_empty))
        names = ("id", "zoneid", "physicalnetworkid", "networkid", "forvirtualnetwork")
        found = matching(call, answers, *names, searched=_RANGE_TEXTS)
        vlan = call.arguments.text("vlan")
        if vlan is None:
            return found
        wanted = f"vlan://{vlan.lower().removeprefix('vlan://')}"
        return [answer for answer in found if answer.vlan == wanted]

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
    name: str,
    select: Handler,
    description: str,
    answer: type,
    object_name: str,
    *parameters: Parameter,
    sortable: tuple[str, ...] = (),
    refused: Mapping[str, str] = NO_REASONS,
) -> Command:
    return Command(
        name,
        paged(select, orders={"startip": ip_address}),
        description,
        answer,
        object_name,
        ResponseShape.LIST,
        parameters,
        roles=ADMIN_ONLY,
        sortable=sortable,
        refused=refused,
    )
