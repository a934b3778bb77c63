# SPDX-License-Identifier: Apache-2.0
"""nftables rules that bring requests for 169.254.169.254 to the metadata service; pure functions.

The address is no interface's: this host keeps its own link-local network (the control network), and its own
cloud's metadata if it is a machine of one. A request is answered by the bridge that it came from, and its
answer goes where the machine's address is, however many bridges there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from systemvm.host.guest_services import METADATA_ADDRESS, METADATA_PORT

TABLE = "systemvm_metadata"


def ruleset(served: Mapping[str, Mapping[IPv4Network, IPv4Address]]) -> str:
    """Return nft input that replaces the table: this host's address in each subnet of each bridge."""
    rules = [
        f'        iifname "{bridge}" ip saddr {subnet} ip daddr {METADATA_ADDRESS} '
        f"tcp dport {METADATA_PORT} dnat to {own}"
        for bridge, by_subnet in sorted(served.items())
        for subnet, own in by_subnet.items()
    ]
    lines = [
        f"table ip {TABLE}",
        f"delete table ip {TABLE}",
        f"table ip {TABLE} {{",
        "    chain prerouting {",
        "        type nat hook prerouting priority dstnat; policy accept;",
        *rules,
        "    }",
        "}",
    ]
    return "\n".join(lines if rules else lines[:2]) + "\n"
