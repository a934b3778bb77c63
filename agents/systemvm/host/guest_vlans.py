# SPDX-License-Identifier: Apache-2.0
"""Bridges of guest VLANs: each network that is in a VLAN has a bridge of its own, beside that of its label.

Its ports have no tag, so that it needs no VLAN filtering; the VLAN is a device on the label's uplink. Without
an uplink nothing leaves the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Interface

from attrs import evolve, frozen

from systemvm.host.bridges import GUEST_TRAFFIC, BridgeKind, HostNetwork

_MAX_NAME_LENGTH = 15  # IFNAMSIZ without its NUL


@frozen
class GuestLink:
    """A guest VLAN that this host needs."""

    bridge: str  # of the label
    vlan: int
    address: IPv4Interface | None = None  # of an isolated network; others are in root's file

    @property
    def name(self) -> str:
        return vlan_bridge(self.bridge, self.vlan)


def vlan_bridge(bridge: str, vlan: int) -> str:
    """Return the name of a guest VLAN's bridge.

    >>> vlan_bridge("cloudbr3", 100), vlan_bridge("bridge-of-guests", 4094)
    ('cloudbr3-100', 'vb04d4a0b1-4094')
    """
    name = f"{bridge}-{vlan}"
    return name if len(name) <= _MAX_NAME_LENGTH else f"vb{_digest(bridge)}-{vlan}"


def tagged_uplink(uplink: str, vlan: int) -> str:
    """Return the name of the device that gives a guest VLAN its tag; no name that others would choose."""
    return f"gv{_digest(uplink)}-{vlan}"


def guest_vlan_networks(networks: Iterable[HostNetwork]) -> dict[str, HostNetwork]:
    """Return every guest VLAN that root's files permit, by its bridge.

    One without addresses of its own there can get one of `guest_cidr`.
    """
    known = list(networks)
    found = {}
    for network in known:
        if not network.is_guest or network.kind is not BridgeKind.LINUX:
            continue
        fixed = dict(network.vlan_addresses)
        for vlan in network.vlans:
            name = vlan_bridge(network.bridge, vlan)
            found[name] = HostNetwork(
                name,
                (GUEST_TRAFFIC,),
                fixed.get(vlan, ()),
                network.uplink,
                guest_cidr=None if vlan in fixed else network.guest_cidr,
                tag=vlan,
            )
    return {name: network for name, network in found.items() if all(name != each.bridge for each in known)}


def with_address(network: HostNetwork, address: IPv4Interface | None) -> HostNetwork:
    """Return the network of a guest VLAN with an address of this host that a request asks for.

    Raises: ValueError when root's file does not permit it.
    """
    if address is None:
        return network
    if network.guest_cidr is None or not address.network.subnet_of(network.guest_cidr):
        raise ValueError(f"{address} is not in guest_cidr of the label")
    return evolve(network, addresses=(address,))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
