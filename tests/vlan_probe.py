# SPDX-License-Identifier: Apache-2.0
"""Sends frames through a bridge with VLANs, as VMs and their neighbours do, and prints who received them.

It runs in a network namespace of its own: in the integration tests where the kernel filters VLANs, and in
the booted host of tests/matrix, whose kernel is Debian's. With the socket of an Open vSwitch as its argument
the bridge is one of these.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import evolve
from pyroute2.iproute.linux import IPRoute

from systemvm.host.bridges import BridgeKind, Datapath, HostNetwork
from systemvm.nethelper import links
from systemvm.nethelper.openvswitch import OpenVSwitch
from systemvm.nethelper.ovsdb import Ovsdb

_ETH_P_ALL, _SOL_PACKET, _PACKET_AUXDATA = 0x0003, 263, 8
_HAS_TAG = 0x10  # TP_STATUS_VLAN_VALID
_AUXDATA = struct.Struct("IIIHHHH")
_ARP = b"\x08\x06" + bytes(46)
_HEADER = bytes(10)  # of virtio, before each frame of a tap


def tag(vlan: int) -> bytes:
    return struct.pack("!HH", 0x8100, vlan)


class Wire:
    """The other end of the uplink."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.bind((name, 0))

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def received(self, source: bytes) -> list[int]:
        """Return the VLANs of the frames that came from a MAC; 0 is no tag."""
        found = []
        while select.select([self._socket], [], [], 1)[0]:
            frame, extra, _, _ = self._socket.recvmsg(2048, 256)
            status, _, _, _, _, tci, _ = _AUXDATA.unpack(extra[0][2][: _AUXDATA.size])
            if frame[6:12] == source:
                found.append(tci & 0xFFF if status & _HAS_TAG else 0)
        return found


def received(tap: int, source: bytes) -> int:
    """Return how many untagged frames a VM received from a MAC."""
    count = 0
    while select.select([tap], [], [], 1)[0]:
        frame = os.read(tap, 4096)[len(_HEADER) :]
        count += frame[6:12] == source and frame[12:14] == b"\x08\x06"
    return count


def bridge_of(arguments: list[str]) -> Callable[[str, int | None], int]:
    """Make a bridge, and return what makes a tap on it."""
    network = HostNetwork("br0", ("public",), uplink="up0", vlans=frozenset({100, 200}))
    if not arguments:
        links.ensure_bridge(network)
        return lambda name, vlan: links.make_tap(name, "br0", isolated=False, vlan=vlan)
    network = evolve(network, kind=BridgeKind.OPENVSWITCH, datapath=Datapath.NETDEV)
    openvswitch = OpenVSwitch(Ovsdb(Path(arguments[0])))
    openvswitch.ensure_bridge(network)
    return lambda name, vlan: openvswitch.make_tap(name, network, isolated=False, vlan=vlan)


def main() -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname="up0", kind="veth", peer={"ifname": "wire0"})
        for name in ("up0", "wire0"):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
    make_tap = bridge_of(sys.argv[1:])
    taps = {vlan: make_tap(f"t000000000{number}-0", vlan) for number, vlan in enumerate((100, 200, None))}
    wire, everybody = Wire("wire0"), b"\xff" * 6
    seen: dict[str, object] = {}
    for number, (vlan, tap) in enumerate(taps.items()):
        source = bytes([2, 0, 0, 0, 0, number])
        os.write(tap, _HEADER + everybody + source + _ARP)
        others = [other for other in taps if other != vlan and received(taps[other], source)]
        seen[f"from {vlan}"] = {"wire": wire.received(source), "others": others}
    for vlan in (100, 300):
        source = bytes([2, 0, 0, 0, 1, vlan & 0xFF])
        wire.send(everybody + source + tag(vlan) + _ARP)
        seen[f"tagged {vlan}"] = [str(other) for other, tap in taps.items() if received(tap, source)]
    # a VM that sends a tag itself, to get into another VLAN
    for name, tap in (("100", taps[100]), ("untagged", taps[None])):
        source = bytes([2, 0, 0, 0, 2, len(name)])
        os.write(tap, _HEADER + everybody + source + tag(200) + _ARP)
        seen[f"forged by {name}"] = [received(taps[200], source), wire.received(source)]
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
