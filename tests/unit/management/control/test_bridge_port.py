# SPDX-License-Identifier: Apache-2.0
"""The source of a connection on the control bridge: its port, else its MAC, else its address."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from systemvm.management.control.bridge_port import BridgePortSource, find_neighbour, find_port

ARP = """IP address       HW type     Flags       HW address            Mask     Device
169.254.1.5      0x1         0x2         0E:00:a9:fe:01:05     *        cloud0
169.254.1.6      0x1         0x0         00:00:00:00:00:00     *        cloud0
10.11.0.9        0x1         0x2         0e:00:00:00:00:09     *        cloudbr1
"""
MAC = "0e:00:a9:fe:01:05"


def entry(mac: str, port: int, is_local: int = 0) -> bytes:
    return struct.pack(
        "=6sBBIBBH", bytes.fromhex(mac.replace(":", "")), port & 0xFF, is_local, 7, port >> 8, 0, 0
    )


def source(root: Path, forwarding: bytes | None) -> BridgePortSource:
    (root / "proc/self/net").mkdir(parents=True)
    (root / "proc/self/net/arp").write_text(ARP)
    (root / "sys/class/net/cloud0").mkdir(parents=True)
    if forwarding is not None:
        (root / "sys/class/net/cloud0/brforward").write_bytes(forwarding)
    return BridgePortSource({"cloud0"}, root)


def test_source_is_the_port_for_any_address_and_mac_of_a_guest(tmp_path: Path) -> None:
    table = entry("0e:00:00:00:00:77", 2) + entry(MAC, 300)
    assert source(tmp_path, table)("169.254.1.5") == "cloud0 port 300"


@pytest.mark.parametrize("table", [None, b"", b"short", entry(MAC, 1, is_local=1)])
def test_source_is_the_mac_without_a_port(tmp_path: Path, table: bytes | None) -> None:
    assert source(tmp_path, table)("169.254.1.5") == f"cloud0 {MAC}"


@pytest.mark.parametrize("address", ["169.254.1.6", "169.254.1.7", "10.11.0.9", "127.0.0.1", "nonsense"])
def test_source_is_the_address_elsewhere(tmp_path: Path, address: str) -> None:
    """Many hosts share the MAC of a router."""
    assert source(tmp_path, entry(MAC, 1))(address) == address


def test_unreadable_tables_count_as_unknown(tmp_path: Path) -> None:
    assert BridgePortSource({"cloud0"}, tmp_path)("2001:db8::7") == "2001:db8::/64"


def test_tables_are_parsed_as_the_kernel_writes_them() -> None:
    assert find_neighbour(ARP, "169.254.1.5") == (MAC, "cloud0")
    assert find_neighbour("", "169.254.1.5") is None
    assert find_port(entry(MAC, 3) + b"torn", MAC) == 3
