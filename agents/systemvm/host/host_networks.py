# SPDX-License-Identifier: Apache-2.0
"""The host's networks that follow from the zone files."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from systemvm.host.bridges import HostNetwork, Interface
from systemvm.host.zone import ZoneConfig


def host_networks(zones: Iterable[ZoneConfig]) -> list[HostNetwork]:
    """Return one network for each bridge; zones and traffic types can share a bridge."""
    kinds: dict[str, dict[str, None]] = {}
    addresses: dict[str, dict[Interface, None]] = {}
    uplinks: dict[str, str] = {}
    for zone in zones:
        for kind, network in zone.networks.by_type().items():
            kinds.setdefault(network.bridge, {})[kind.value] = None
            of_bridge = addresses.setdefault(network.bridge, {})
            if network.host_address is not None:
                interface = ipaddress.ip_interface(f"{network.host_address}/{network.cidr.prefixlen}")
                of_bridge[interface] = None
            if network.uplink is not None:
                uplinks[network.bridge] = network.uplink
    return [
        HostNetwork(bridge, tuple(kinds[bridge]), tuple(addresses[bridge]), uplinks.get(bridge))
        for bridge in kinds
    ]
