# SPDX-License-Identifier: Apache-2.0
"""The host's nftables rules: which of its addresses each bridge reaches.

Linux answers on any interface for any of its addresses, and can route between bridges. So an address is
reachable only through its own bridge, and nothing is forwarded from one bridge to another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from systemvm.host.bridges import HostNetwork
from systemvm.wire.role import CONTROL_PORT

TABLE = "systemvm"

#: The group of links that only carry frames, such as those of `nethelper/hybrid_plug.py`. With Open vSwitch's
#: own datapath the kernel gets their frames, too, as if they were sent to this host.
CARRIER_GROUP = 29558
#: The group of bridges of guest VLANs and their devices, by which the network helper knows what it made.
GUEST_LINK_GROUP = 29559

Address = IPv4Address | IPv6Address

#: What machines of a guest VLAN reach of this host: DHCP, DNS, metadata and passwords at its address there.
_GUEST_LINK_RULES = (
    "meta nfproto ipv6 drop",
    "ip daddr 255.255.255.255 udp dport 67 accept",
    "iifname . ip daddr != @addresses_by_guest_link drop",
    "ip saddr @guest_link_addresses drop",
    "udp dport { 53, 67 } accept",
    "tcp dport { 53, 80, 8080 } accept",
    "icmp type echo-request accept",
    "drop",
)


def removal() -> str:
    """Return nft input that deletes the table, whether it exists or not."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def ruleset(
    networks: Sequence[HostNetwork],
    console_addresses: Iterable[Address] = (),
    *,
    vnc_ports: tuple[int, int] = (5900, 6100),
    control_port: int = CONTROL_PORT,
    guest_links: Sequence[HostNetwork] = (),
) -> str:
    """Return nft input that replaces the whole table in one transaction."""
    lines = [
        removal() + f"table inet {TABLE} {{",
        '    set consoles4 { type ipv4_addr; comment "console proxies\' management addresses"; }',
        '    set consoles6 { type ipv6_addr; comment "console proxies\' management addresses"; }',
        "    set guest_links { type ifname; }",
        "    set guest_link_addresses { type ipv4_addr; }",
        "    set paths_in_guest_links { type ifname . ifname; }",
        "    set addresses_by_guest_link { type ifname . ipv4_addr; }",
        # with br_netfilter a frame would be known from here when it arrives at its bridge, and not translated
        "    chain carried {",
        "        type filter hook prerouting priority raw; policy accept;",
        f"        iifgroup {CARRIER_GROUP} notrack",
        "    }",
        "    chain guest_links {",
        *(f"        {rule}" for rule in _GUEST_LINK_RULES),
        "    }",
        "    chain input {",
        "        type filter hook input priority filter; policy accept;",
        '        iifname "lo" accept',
        f"        iifgroup {CARRIER_GROUP} drop",
        "        iifname @guest_links jump guest_links",
        "        ip daddr @guest_link_addresses drop",
        *(
            f"        {rule}"
            for rule in _input_rules(networks, f"{vnc_ports[0]}-{vnc_ports[1]}", control_port)
        ),
        "    }",
        "    chain forward {",
        "        type filter hook forward priority filter; policy accept;",
        # br_netfilter shows frames here, too, that stay in their bridge
        f"        iifgroup {CARRIER_GROUP} oifgroup != {CARRIER_GROUP} drop",
        f"        iifgroup != {CARRIER_GROUP} oifgroup {CARRIER_GROUP} drop",
        "        iifname . oifname @paths_in_guest_links accept",
        "        iifname @guest_links drop",
        "        oifname @guest_links drop",
        *(f"        {rule}" for rule in _forward_rules(networks)),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n" + admit_consoles(console_addresses) + protect_guest_links(guest_links)


def admit_consoles(addresses: Iterable[Address]) -> str:
    """Return nft input that replaces the console proxies that may reach VNC, and nothing else."""
    lines = [f"flush set inet {TABLE} consoles4", f"flush set inet {TABLE} consoles6"]
    for version, group in itertools.groupby(sorted(set(addresses), key=_order), key=lambda a: a.version):
        elements = ", ".join(map(str, group))
        lines.append(f"add element inet {TABLE} consoles{version} {{ {elements} }}")
    return "\n".join(lines) + "\n"


def protect_guest_links(networks: Sequence[HostNetwork]) -> str:
    """Return nft input that replaces the bridges of guest VLANs, which need not exist yet."""
    names = [f'"{network.bridge}"' for network in networks]
    pairs = [
        (f'"{network.bridge}"', str(interface.ip))
        for network in networks
        for interface in network.addresses
        if interface.version == 4
    ]
    sets = {
        "guest_links": names,
        "paths_in_guest_links": [f"{name} . {name}" for name in names],
        "guest_link_addresses": [address for _, address in pairs],
        "addresses_by_guest_link": [f"{name} . {address}" for name, address in pairs],
    }
    lines = [f"flush set inet {TABLE} {name}" for name in sets]
    for name, elements in sets.items():
        if elements:
            lines.append(f"add element inet {TABLE} {name} {{ {', '.join(sorted(elements))} }}")
    return "\n".join(lines) + "\n"


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)


def _input_rules(networks: Sequence[HostNetwork], vnc_ports: str, control_port: int) -> list[str]:
    rules: list[str] = []
    for network in networks:
        for interface in network.addresses:
            family = _family(interface.ip)
            # against the weak host model, and against guests that use the host's address
            rules.append(f'iifname != "{network.bridge}" {family} daddr {interface.ip} drop')
            rules.append(f'iifname "{network.bridge}" {family} saddr {interface.ip} drop')
            # against addresses of this network on another bridge
            others = [other.bridge for other in networks if other is not network]
            if others:
                rules.append(f"iifname {_names(others)} {family} saddr {interface.network} drop")
    bridges = _names([network.bridge for network in networks])
    for network in networks:
        if not network.is_management:
            continue
        for interface in network.addresses:
            family, version = _family(interface.ip), interface.ip.version
            rules.append(
                f'iifname "{network.bridge}" {family} daddr {interface.ip} {family} saddr @consoles{version} '
                f"tcp dport {vnc_ports} accept"
            )
    # before established traffic, so that a removed proxy loses its connections
    rules += [f"iifname {bridges} tcp dport {vnc_ports} drop"] if networks else []
    for network in networks:
        if not network.is_control:
            continue
        bridge = f'iifname "{network.bridge}"'
        rules.append(f"{bridge} ct state established,related accept")
        for interface in network.addresses:
            daddr = f"{_family(interface.ip)} daddr {interface.ip}"
            rules.append(f"{bridge} {daddr} tcp dport {control_port} accept")
            echo = "icmp" if interface.ip.version == 4 else "icmpv6"
            rules.append(f"{bridge} {daddr} {echo} type echo-request accept")
        rules.append(f"{bridge} drop")
    return rules


def _forward_rules(networks: Sequence[HostNetwork]) -> list[str]:
    rules: list[str] = []
    for network in networks:
        others = [other.bridge for other in networks if other is not network]
        if network.is_control:
            # traffic between ports of the same bridge is prevented by isolated ports
            rules.append(f'iifname "{network.bridge}" oifname != "{network.bridge}" drop')
            rules.append(f'iifname != "{network.bridge}" oifname "{network.bridge}" drop')
        elif others:
            rules.append(f'iifname "{network.bridge}" oifname {_names(others)} drop')
    return rules


def _family(address: Address) -> str:
    return "ip" if address.version == 4 else "ip6"


def _names(bridges: Sequence[str]) -> str:
    return "{ " + ", ".join(f'"{bridge}"' for bridge in bridges) + " }"
