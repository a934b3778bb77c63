# SPDX-License-Identifier: Apache-2.0
"""Scans an address: every TCP port by a SYN, and the UDP ports of common services.

usage: port_scan.py SOURCE TARGET PORT…     prints JSON; runs as root in a namespace on the target's network

It uses raw sockets, because connect() waits seconds for each port that a firewall drops. It probes each port
twice, in different orders, and then PORT…, which should be open, until they answer: while a guest gets no
CPU, the packets that do not fit into its queue are lost, of a scan up to one in ten on a busy host.
"""

from __future__ import annotations

import json
import random
import select
import selectors
import socket
import struct
import sys
import time
from contextlib import ExitStack

BURST = 128  # packets that fit into a guest's receive queue
PAUSE_S = 0.015
QUIET_S = 3.0  # no reply is expected after this time
TRIES = 20  # of ports that should be open
SYN, SYN_ACK, RST = 0x02, 0x12, 0x04
#: DNS, DHCP, TFTP, port mapper, NTP, NetBIOS, SNMP, IKE, syslog, NFS, mDNS, VXLAN and others, and our own.
UDP_PORTS = (
    53, 67, 68, 69, 88, 111, 123, 137, 138, 161, 162, 177, 389, 427, 443, 500, 514, 520, 546, 547, 623, 631,
    853, 1194, 1645, 1701, 1812, 1900, 2049, 3478, 3922, 4500, 4789, 5060, 5353, 5355, 8250, 8443, 8472,
    10000, 51820,
)  # fmt: skip


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    found: int = ~total & 0xFFFF
    return found


def segment(source: str, target: str, from_port: int, port: int) -> bytes:
    """Return a SYN with its checksum over the pseudo header (RFC 9293, 3.1)."""
    head = struct.pack("!HHIIBBHHH", from_port, port, random.getrandbits(32), 0, 5 << 4, SYN, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def tcp(source: str, target: str, expected: list[int]) -> dict[str, list[int]]:
    """Return the ports that accept, and those that answer with a reset."""
    found: dict[str, set[int]] = {"open": set(), "reset": set()}
    from_port = random.randrange(20000, 30000)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as channel:
        channel.bind((source, 0))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        channel.setblocking(False)
        for _ in range(2):
            ports = list(range(1, 65536))
            random.shuffle(ports)
            for start in range(0, len(ports), BURST):
                for port in ports[start : start + BURST]:
                    channel.sendto(segment(source, target, from_port, port), (target, 0))
                _receive(channel, target, from_port, found, PAUSE_S)
            _receive(channel, target, from_port, found, QUIET_S)
        for _ in range(TRIES):
            missing = [port for port in expected if port not in found["open"] | found["reset"]]
            if not missing:
                break
            for port in missing:
                channel.sendto(segment(source, target, from_port, port), (target, 0))
            _receive(channel, target, from_port, found, QUIET_S)
    return {kind: sorted(ports) for kind, ports in found.items()}


def _receive(
    channel: socket.socket, target: str, our_port: int, found: dict[str, set[int]], wait_s: float
) -> None:
    deadline = time.monotonic() + wait_s
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([channel], [], [], left_s)[0]:
            return
        packet, sender = channel.recvfrom(2048)
        header = 4 * (packet[0] & 15)
        if sender[0] != target or len(packet) < header + 14:
            continue
        port, to_port = struct.unpack("!HH", packet[header : header + 4])
        flags = packet[header + 13]
        if to_port == our_port:
            if flags & SYN_ACK == SYN_ACK:
                found["open"].add(port)
            elif flags & RST:
                found["reset"].add(port)


def udp(source: str, target: str) -> dict[str, list[int]]:
    """Return the ports that answer, and those reported closed (ICMP port unreachable)."""
    found: dict[str, set[int]] = {"answered": set(), "refused": set()}
    with ExitStack() as open_channels, selectors.DefaultSelector() as selector:
        for port in UDP_PORTS:
            channel = open_channels.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            channel.bind((source, 0))
            channel.connect((target, port))
            channel.send(b"\0" * 48)
            selector.register(channel, selectors.EVENT_READ, port)
        deadline = time.monotonic() + QUIET_S
        while (left_s := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                selector.unregister(key.fileobj)
                try:
                    key.fileobj.recv(2048)  # type: ignore[union-attr]
                    found["answered"].add(key.data)
                except ConnectionRefusedError:
                    found["refused"].add(key.data)
    return {kind: sorted(ports) for kind, ports in found.items()}


if __name__ == "__main__":
    source, target, *ports = sys.argv[1:]
    result = {"tcp": tcp(source, target, [int(port) for port in ports]), "udp": udp(source, target)}
    sys.stdout.write(json.dumps(result) + "\n")
