# SPDX-License-Identifier: Apache-2.0
"""nftables rules of bridges: a machine sends from its own MAC and address only, and is no router.

The metadata service knows a machine by its address, so that nobody may take another one's. A port of a
machine without an address of the cloud can use any that no other machine of this host has. Guest networks
have no IPv6: a machine with an address sends IPv4 and ARP, and nothing else.

An L2 network is a VLAN of one account, in which the cloud has no address: its ports send what they want, but
for tags. They are known by their names, because `meta ibrname` is in a module that not every kernel has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from attrs import frozen

from systemvm.host.guest_services import METADATA_ADDRESS

TABLE = "systemvm"
#: Taps begin with a t. An address of this host's machines is of no other tap's.
_TAPS = "t*"


@frozen
class BoundGuest:
    """The port of a machine, and what it can send from."""

    port: str
    mac: str
    address: IPv4Address


def removal() -> str:
    """Return nft input that deletes the table, whether it exists or not."""
    return f"table bridge {TABLE}\ndelete table bridge {TABLE}\n"


def ruleset(guests: Sequence[BoundGuest], l2_ports: Iterable[str] = ()) -> str:
    """Return nft input that replaces the whole table in one transaction; `l2_ports` are on L2 networks."""
    quoted = [f'"{guest.port}"' for guest in guests]
    by_mac = [f"{port} . {guest.mac}" for port, guest in zip(quoted, guests, strict=True)]
    by_address = [f"{port} . {guest.address}" for port, guest in zip(quoted, guests, strict=True)]
    lines = [
        removal() + f"table bridge {TABLE} {{",
        _set("ports", "ifname", quoted),
        _set("l2_ports", "ifname", [f'"{port}"' for port in l2_ports]),
        _set("macs", "ether_addr", [guest.mac for guest in guests]),
        _set("addresses", "ipv4_addr", [str(guest.address) for guest in guests]),
        _set("by_mac", "ifname . ether_addr", by_mac),
        _set("by_address", "ifname . ipv4_addr", by_address),
        "    chain prerouting {",
        "        type filter hook prerouting priority -300; policy accept;",
        # the rules below see only the outer type, and the kernel removes tags of VLAN 0 after them
        f'        iifname "{_TAPS}" ether type {{ 8021q, 8021ad }} drop',
        "        iifname @l2_ports accept",
        "        iifname @ports ether type != { ip, arp } drop",
        "        iifname @ports iifname . ether saddr != @by_mac drop",
        "        iifname @ports iifname . arp saddr ether != @by_mac drop",
        # a machine that asks for its address has none yet
        "        iifname @ports ip saddr != 0.0.0.0 iifname . ip saddr != @by_address drop",
        "        iifname @ports arp saddr ip != 0.0.0.0 iifname . arp saddr ip != @by_address drop",
        f'        iifname "{_TAPS}" ether saddr @macs iifname . ether saddr != @by_mac drop',
        f'        iifname "{_TAPS}" ip saddr @addresses iifname . ip saddr != @by_address drop',
        f'        iifname "{_TAPS}" arp saddr ip @addresses iifname . arp saddr ip != @by_address drop',
        f'        iifname "{_TAPS}" ip saddr {METADATA_ADDRESS} drop',
        f'        iifname "{_TAPS}" arp saddr ip {METADATA_ADDRESS} drop',
        # no machine gives others their addresses, their router or their name servers
        f'        iifname "{_TAPS}" udp sport {{ 67, 547 }} drop',
        f'        iifname "{_TAPS}" icmpv6 type {{ nd-router-advert, nd-redirect }} drop',
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _set(name: str, kind: str, elements: Iterable[str]) -> str:
    found = ", ".join(sorted(set(elements)))
    return f"    set {name} {{ type {kind};" + (f" elements = {{ {found} }};" if found else "") + " }"
