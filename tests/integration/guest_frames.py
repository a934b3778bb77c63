# SPDX-License-Identifier: Apache-2.0
"""Frames that a machine must not send on a guest bridge, and who receives them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from integration.guest_machine import Machine
from integration.network_lab import Host

ALL_NODES = "ff020000000000000000000000000001"
ROUTER_ADVERTISEMENT = "86000000400807080000000000000000"
SNIFF = """
import socket, sys
receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
receiver.bind(("eth0", 0))
print("ready", flush=True)
wanted = sys.argv[1:]
while True:
    frame = receiver.recv(4096).hex()
    for number, each in enumerate(wanted):
        if frame.startswith(each):
            print(number, flush=True)
            if number == len(wanted) - 1:
                sys.exit()
"""


def bind(host: Host, *guests: tuple[str, str, str], l2_ports: Sequence[str] = ()) -> None:
    """Set the filter of ports by name, MAC and address, and of ports on L2 networks."""
    made = ", ".join(f"BoundGuest({p!r}, {m!r}, ipaddress.ip_address({a!r}))" for p, m, a in guests)
    bound = f"await driver.bind_guests([{made}], {[*l2_ports]})"
    host.drive(f"from systemvm.host.guest_filter import BoundGuest\n{bound}")


def frames_of(mac: str) -> dict[str, str]:
    """Return frames of a machine with the address 10.13.0.50, by what they are; the last one is permitted."""
    source = mac.replace(":", "")
    own = "fe800000000000000000000000000001"
    return {
        "router advertisement": f"333300000001{source}" + ipv6(own, ALL_NODES, 58, ROUTER_ADVERTISEMENT),
        "redirect": f"333300000001{source}" + ipv6(own, ALL_NODES, 58, "8900" + 38 * "00"),
        "DHCPv6 server": f"333300000001{source}" + ipv6(own, ALL_NODES, 17, udp(547, 546, "02000001")),
        "DHCP server": f"ffffffffffff{source}" + ipv4("0a0d0032", "ffffffff", 17, udp(67, 68, "02010600")),
        "neighbour advertisement": f"333300000001{source}"
        + ipv6(own, ALL_NODES, 58, "88000000a0000000" + "fd" + 15 * "11"),
        "ARP for another": f"ffffffffffff{source}08060001080006040002{source}0a0d00ffffffffffffff0a0d00ff",
        "ARP with another's MAC": f"ffffffffffff{source}0806000108000604"
        "00020200000000aa0a0d0032ffffffffffff0a0d0032",
        "ARP for the metadata service": f"ffffffffffff{source}0806000108000604"
        f"0002{source}a9fea9feffffffffffff0a0d0001",
        "its own ARP": f"ffffffffffff{source}08060001080006040001{source}0a0d00320000000000000a0d0001",
    }


def passed(
    listener: str, machine: Machine, frames: dict[str, str], *, received: dict[str, str] | None = None
) -> set[str]:
    """Send frames; return which of them another namespace on the bridge receives. The last one must pass.

    `received` has them as they arrive, where that is otherwise.
    """
    sniffer = subprocess.Popen(
        [
            *("ip", "netns", "exec", listener, sys.executable, "-c", SNIFF),
            *(frames | (received or {})).values(),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sniffer.stdout is not None
        assert sniffer.stdout.readline() == "ready\n"
        machine.send(*frames.values())
        numbers = sniffer.communicate(timeout=100)[0].split()
    finally:
        sniffer.kill()
        sniffer.wait()
    names = [*frames]
    return {names[int(number)] for number in numbers}


def ipv6(source: str, destination: str, protocol: int, payload: str) -> str:
    """Return type and payload of a frame; checksums are left to those who look at them."""
    return f"86dd60000000{len(payload) // 2:04x}{protocol:02x}ff{source}{destination}{payload}"


def ipv4(source: str, destination: str, protocol: int, payload: str) -> str:
    length = 20 + len(payload) // 2
    start, end = f"4500{length:04x}0000000040{protocol:02x}", f"{source}{destination}"
    words = memoryview(bytes.fromhex(f"{start}0000{end}")).cast("H")
    total = sum(int.from_bytes(word.to_bytes(2, sys.byteorder)) for word in words)
    checksum = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    return f"0800{start}{checksum:04x}{end}{payload}"


def udp(source: int, destination: int, payload: str) -> str:
    return f"{source:04x}{destination:04x}{8 + len(payload) // 2:04x}0000{payload}"
