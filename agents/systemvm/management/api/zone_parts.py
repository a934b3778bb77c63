# SPDX-License-Identifier: Apache-2.0
"""Parts of a zone that a zone file implies and that have an id in CloudStack: pod, cluster, pool, networks.

A zone file describes one pod with one cluster of KVM hosts. Their ids are derived from the zone's UUID and
the kind of the part, so that they are the same after every restart, as those of offerings are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

from systemvm.host.zone import NetworkConfig, NetworksConfig
from systemvm.management.api.command import ApiCall, matches_keyword
from systemvm.management.state.zones import Host, Zone

#: Returns a zone's networks by the zone's name.
NetworksOf = Callable[[str], NetworksConfig]


@frozen
class ZonePart:
    """A part of a zone: its UUID and its name."""

    id: str
    name: str


def pod_of(zone: Zone) -> ZonePart:
    return ZonePart(_id_of(zone.uuid, "pod"), f"{zone.name}-pod")


def cluster_of(zone: Zone) -> ZonePart:
    return ZonePart(_id_of(zone.uuid, "cluster"), f"{zone.name}-cluster")


def pool_of(host: Host) -> ZonePart:
    """Return the pool of a host: the directory with the disks of its VMs."""
    return ZonePart(_id_of(host.uuid, "pool"), f"{host.name}-primary")


def physical_network_of(zone: Zone, network: NetworkConfig) -> ZonePart:
    """Return the physical network of a network: its bridge."""
    return ZonePart(_id_of(zone.uuid, f"physical network {network.bridge}"), network.bridge)


def guest_network_of(zone: Zone) -> ZonePart:
    return ZonePart(_id_of(zone.uuid, "guest network"), f"{zone.name}-guest")


def guest_network_offering_of(zone: Zone) -> ZonePart:
    return ZonePart(_id_of(zone.uuid, "guest network offering"), "Bridged guest network without services")


def public_range_of(zone: Zone) -> ZonePart:
    return ZonePart(_id_of(zone.uuid, "public range"), f"{zone.name}-public")


def _id_of(owner: str, part: str) -> str:
    return str(uuid.uuid5(uuid.UUID(owner), part))


def matching(call: ApiCall, answers: Iterable[Any], *names: str) -> list[Any]:
    """Return the answers whose keys `names` have the values that the call gives, whatever their case."""
    return [answer for answer in answers if _matches(call, answer, names)]


def _matches(call: ApiCall, answer: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        wanted, found = call.arguments.get(name), getattr(answer, name)
        if isinstance(wanted, str) and isinstance(found, str):
            wanted, found = wanted.lower(), found.lower()
        if wanted is not None and wanted != found:
            return False
    return matches_keyword(call.arguments, getattr(answer, "name", None))
