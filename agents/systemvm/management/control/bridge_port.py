# SPDX-License-Identifier: Apache-2.0
"""Finds the port of the control bridge that a connection uses, which a guest cannot choose.

A guest can use any address and any MAC of its link. The bridge's forwarding table has the port, that is the
machine's tap, behind which a MAC was seen last. Without an entry the MAC counts, else the address.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path

from attrs import frozen

from systemvm.service.connection_limits import source_of_address

#: linux/if_bridge.h, struct __fdb_entry: MAC, port_no, is_local, ageing timer, port_hi, padding.
_FDB_ENTRY = struct.Struct("=6sBBIBBH")


@frozen
class BridgePortSource:
    """Identifies the source of an address on one of `bridges`; every call reads /proc and /sys."""

    bridges: Collection[str]
    root: Path = Path("/")

    def __call__(self, address: str) -> str:
        """Return the source for `ConnectionLimits.admit`; never fails, unreadable files count as unknown."""
        by_address = source_of_address(address)
        try:
            arp = (self.root / "proc/self/net/arp").read_text("ascii")
        except (OSError, ValueError):
            return by_address
        neighbour = find_neighbour(arp, by_address)
        if neighbour is None or neighbour[1] not in self.bridges:
            return by_address
        mac, bridge = neighbour
        try:
            forwarding = (self.root / "sys/class/net" / bridge / "brforward").read_bytes()
        except OSError:
            forwarding = b""
        port = find_port(forwarding, mac)
        return f"{bridge} {mac}" if port is None else f"{bridge} port {port}"


def find_neighbour(arp: str, address: str) -> tuple[str, str] | None:
    """Return MAC and device of an IPv4 address from the text of /proc/net/arp (proc_net(5)), or None."""
    for line in arp.splitlines()[1:]:
        columns = line.split()
        if len(columns) == 6 and columns[0] == address and columns[3] != "00:00:00:00:00:00":
            return columns[3].lower(), columns[5]
    return None


def find_port(forwarding: bytes, mac: str) -> int | None:
    """Return the port of a MAC from the bytes of a bridge's `brforward` file, or None."""
    packed = bytes.fromhex(mac.replace(":", ""))
    whole = len(forwarding) - len(forwarding) % _FDB_ENTRY.size
    for seen, low, is_local, _, high, _, _ in _FDB_ENTRY.iter_unpack(forwarding[:whole]):
        if seen == packed and not is_local:
            return int(high) << 8 | int(low)
    return None
