# SPDX-License-Identifier: Apache-2.0
"""listCapacity: addresses and storage of each zone, from what the daemon measures and allocates.

CPU and memory have no rows: no VM is refused because of them, and a capacity that limits nothing would be an
invention.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.capacity import CapacityAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.commands import zone_answers
from systemvm.management.api.parameters import ParameterType, only, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.zone_parts import matching
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import address_ranges, pods, storage_pools, zones
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.pods import Pod
from systemvm.management.state.zones import Zone


class CapacityType(enum.IntEnum):
    """CloudStack's numbers (Capacity.java); only those that something here has."""

    STORAGE = 2
    VIRTUAL_NETWORK_PUBLIC_IP = 4
    PRIVATE_IP = 5
    SECONDARY_STORAGE = 6
    LOCAL_STORAGE = 9
    VIRTUAL_NETWORK_IPV6_SUBNET = 10


UUID = ParameterType.UUID
_LIST = (
    optional("zoneid", UUID, "list only that of this zone"),
    optional("podid", UUID, "list only that of this pod"),
    optional("clusterid", UUID, "list only that of this cluster"),
    optional("type", ParameterType.INTEGER, "list only that of this type, a number of CloudStack's"),
    optional("fetchlatest", ParameterType.BOOLEAN, "accepted, but without effect: each call has the latest"),
    only("sortby", ParameterType.STRING, "sort by what is used, the fullest first", "usage"),
)


class CapacityCommands:
    """The list, for administrators."""

    def __init__(self, database: Database, pools: StoragePools) -> None:
        self._database = database
        self._pools = pools

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listCapacity", paged(self._list, sorts_itself=True),
                "Lists how much each zone has and uses.", CapacityAnswer,
                "capacity", ResponseShape.LIST, _LIST, ADMIN_ONLY, related=("listZones", "listStoragePools"),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[CapacityAnswer]:
        usages = await self._pools.usages()
        answers = await self._database.read(_capacities, self._pools.own_directory, usages)
        found: list[CapacityAnswer] = matching(call, answers, "zoneid", "podid", "clusterid", "type")
        if "sortby" in call.arguments:
            found.sort(key=lambda answer: float(answer.percentused), reverse=True)
        return found


def _capacities(connection: Connection, primary: Path, usages: Usages) -> list[CapacityAnswer]:
    of_zones = [
        answer
        for zone in zones.list_zones(connection)
        for answer in (*_of_addresses(connection, zone), *_of_stores(connection, zone))
    ]
    return of_zones + list(_of_pools(connection, primary, usages))


def _of_addresses(connection: Connection, zone: Zone) -> Iterator[CapacityAnswer]:
    public = address_ranges.list_ranges(connection, zone.id, TrafficType.PUBLIC)
    for kind, is_ipv6 in (
        (CapacityType.VIRTUAL_NETWORK_PUBLIC_IP, False),
        (CapacityType.VIRTUAL_NETWORK_IPV6_SUBNET, True),
    ):
        of_family = [each for each in public if each.is_ipv6 is is_ipv6]
        if of_family:
            yield _answer(kind, zone, *_addresses(connection, of_family))
    for pod in pods.list_pods(connection):
        private = address_ranges.list_ranges(connection, zone.id, TrafficType.MANAGEMENT, pod.id)
        if pod.zone_id == zone.id and private:
            used, total = _addresses(connection, private)
            yield _answer(CapacityType.PRIVATE_IP, zone, used, total, pod)


def _addresses(connection: Connection, ranges: list[NetworkRange]) -> tuple[int, int]:
    used = sum(len(address_ranges.used_addresses(connection, each)) for each in ranges)
    return used, address_ranges.total(ranges)


def _of_stores(connection: Connection, zone: Zone) -> Iterator[CapacityAnswer]:
    """Yield the sum of the zone's image stores that were measured."""
    stores = zones.list_image_stores(connection, zone.id)
    measured = [store for store in stores if store.capacity_bytes]
    if measured:
        used = sum(store.used_bytes or 0 for store in measured)
        total = sum(store.capacity_bytes or 0 for store in measured)
        yield _answer(CapacityType.SECONDARY_STORAGE, zone, used, total)


def _of_pools(connection: Connection, primary: Path, usages: Usages) -> Iterator[CapacityAnswer]:
    for pool in zone_answers.pools(connection, primary, usages):
        if pool.disksizetotal is None:
            continue  # of another host, which measures it itself
        kind = CapacityType.LOCAL_STORAGE if pool.scope == storage_pools.HOST else CapacityType.STORAGE
        yield CapacityAnswer(
            type=kind.value,
            name=kind.name,
            zoneid=pool.zoneid,
            zonename=pool.zonename,
            podid=pool.podid,
            podname=pool.podname,
            clusterid=pool.clusterid,
            clustername=pool.clustername,
            capacityallocated=pool.disksizeallocated,
            capacityused=pool.disksizeused or 0,
            capacitytotal=pool.disksizetotal,
            percentused=_percent(pool.disksizeused or 0, pool.disksizetotal),
        )


def _answer(kind: CapacityType, zone: Zone, used: int, total: int, pod: Pod | None = None) -> CapacityAnswer:
    return CapacityAnswer(
        type=kind.value,
        name=kind.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        capacityused=used,
        capacitytotal=total,
        percentused=_percent(used, total),
        podid=pod.uuid if pod else None,
        podname=pod.name if pod else None,
    )


def _percent(used: int, total: int) -> str:
    return f"{100 * used / total if total else 0:.2f}"
