# SPDX-License-Identifier: Apache-2.0
"""The network of an appliance as values: interfaces, routes, and the `ip -batch` input that applies them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import NamedTuple

from systemvm.guest.boot_argument_error import BootError
from systemvm.wire.boot_failure import BootFailure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
InterfaceAddress = IPv4Interface | IPv6Interface

#: The names of CloudStack's NICs.
DEVICE = re.compile(r"eth\d+")


class Interface(NamedTuple):
    """One NIC as described by the boot arguments."""

    device: str
    addresses: tuple[InterfaceAddress, ...]
    mtu: int | None = None
    mac: str | None = None

    def networks(self) -> list[Network]:
        return [address.network for address in self.addresses]

    def reaches(self, address: Address) -> bool:
        return any(address in network for network in self.networks())


class Route(NamedTuple):
    """`destination` None is the default route."""

    destination: Network | None
    gateway: Address
    device: str


class NetworkPlan(NamedTuple):
    """The whole network of an appliance."""

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    management_cidrs: tuple[Network, ...]
    name_servers: tuple[Address, ...]
    control: Interface
    management: Interface | None
    public: Interface | None
    storage: Interface | None

    def ip_batch(self) -> str:
        """Return lines for `ip -batch -`, addresses before routes, so that gateways are reachable."""
        lines = ["link set dev lo up"]
        for nic in self.interfaces:
            lines.append(f"address flush dev {nic.device} scope global")
            for address in nic.addresses:
                # duplicate detection would delay an IPv6 address by a second, and only the host assigns it
                extra = " nodad" if address.version == 6 else " broadcast +"
                lines.append(f"address replace {address.with_prefixlen} dev {nic.device}{extra}")
            mtu = f" mtu {nic.mtu}" if nic.mtu else ""
            lines.append(f"link set dev {nic.device}{mtu} up")
        for route in self.routes:
            destination = "default" if route.destination is None else str(route.destination)
            lines.append(f"route replace {destination} via {route.gateway} dev {route.device}")
        return "\n".join(lines) + "\n"

    def renaming(self, present: Mapping[str, str]) -> str:
        """Return lines for `ip -batch -` that rename the NICs into the order of nic_macs=; empty if in order.

        Renaming takes two steps, because two NICs can have each other's name. A NIC that is not in nic_macs=
        and whose name is needed gets a name that becomes free.
        """
        by_mac = {mac.lower(): device for device, mac in present.items() if DEVICE.fullmatch(device)}
        moves = {
            by_mac[nic.mac]: nic.device
            for nic in self.interfaces
            if nic.mac in by_mac and by_mac[nic.mac] != nic.device
        }
        free = sorted(set(moves) - set(moves.values()))
        for device in sorted(set(moves.values()) - set(moves)):
            if device in present:
                moves[device] = free.pop(0)
        lines = [f"link set dev {device} name was-{device}" for device in moves]
        lines += [f"link set dev was-{device} name {name}" for device, name in moves.items()]
        return "\n".join(lines) + "\n" if lines else ""

    def check_devices(self, present: Mapping[str, str]) -> None:
        """Check that every NIC exists; `present` is the MAC by device. Waiting would hide the mistake.

        Raises: BootError when a NIC is absent or has another MAC.
        """
        for nic in self.interfaces:
            if nic.device not in present:
                raise BootError(
                    BootFailure.NIC_ABSENT,
                    f"{nic.device} of the boot arguments does not exist: "
                    f"the VM has {', '.join(sorted(present)) or 'no NIC'}",
                    "give the VM a NIC for every ethNip=",
                )
            if nic.mac and nic.mac != present[nic.device].lower():
                raise BootError(
                    BootFailure.NIC_ABSENT,
                    f"{nic.device} has MAC {present[nic.device]}, but nic_macs= contains {nic.mac}",
                    "check that nic_macs= belongs to this VM: no NIC has that MAC",
                )
