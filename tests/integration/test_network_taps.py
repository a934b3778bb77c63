# SPDX-License-Identifier: Apache-2.0
"""Taps of machines on real bridges: their ports, isolation and lifetime."""

from __future__ import annotations

import json

import pytest

from integration.network_lab import Host, host, links_of, sh

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

__all__ = ["host"]  # the fixture


def test_a_tap_is_a_port_of_its_bridge_and_goes_with_its_descriptor(host: Host) -> None:
    output = host.drive(
        """
        import json, subprocess
        kept = [
            await driver.create_tap("tabcdef0123-0", "cloud0", isolated=True),
            await driver.create_tap("tabcdef0123-1", "cloudbr0", isolated=False),
        ]
        os.close(await driver.create_tap("tabcdef0123-2", "cloudbr0", isolated=False))
        await driver.ensure()  # the helper closes its descriptor of a call before it answers the next one
        print(subprocess.run(["ip", "-d", "-j", "link"], capture_output=True, text=True).stdout)
        with open("/proc/sys/net/ipv6/conf/tabcdef0123-1/disable_ipv6") as switch:
            print(switch.read())
        """
    )
    listed, ipv6_is_off = output.rsplit(maxsplit=1)
    assert ipv6_is_off == "1"  # else the host would get an address on it
    links = {link["ifname"]: link for link in json.loads(listed)}
    assert links["tabcdef0123-0"]["master"] == "cloud0"
    assert links["tabcdef0123-0"]["linkinfo"]["info_slave_data"]["isolated"] is True
    assert links["tabcdef0123-1"]["linkinfo"]["info_slave_data"]["isolated"] is False
    assert "UP" in links["tabcdef0123-1"]["flags"]
    assert "tabcdef0123-2" not in links
    assert not [name for name in links_of(host) if name.startswith("tabc")]


TWO_MACHINES = """
import ipaddress, select, struct

def frame(source, target, address):
    target_address = ipaddress.ip_address(address).packed
    # an ARP request for `address`; ten bytes of virtio header come first
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source + ipaddress.ip_address("169.254.5.5").packed
    return bytes(10) + target + source + b"\\x08\\x06" + arp + bytes(6) + target_address

one = await driver.create_tap("t0000000001-0", "cloud0", isolated=False)  # the helper isolates it anyway
two = await driver.create_tap("t0000000002-0", "cloud0", isolated=True)
mine, other = bytes.fromhex("0e00a9fe0505"), bytes.fromhex("0e00a9fe0606")
os.write(two, frame(other, b"\\xff" * 6, "169.254.0.1"))  # the bridge learns where `other` is
for target in (b"\\xff" * 6, other):
    os.write(one, frame(mine, target, "169.254.0.1"))

def received(tap):
    frames = []
    while select.select([tap], [], [], 1)[0]:
        frames.append(os.read(tap, 4096)[10:])
    return frames

answers = [frame for frame in received(one) if frame[12:14] == b"\\x08\\x06" and frame[20:22] == b"\\0\\2"]
strays = [frame for frame in received(two) if frame[6:12] == mine]
print(len(answers), len(strays))
"""


def test_two_system_vms_reach_the_host_and_not_each_other_by_frames_on_their_taps(host: Host) -> None:
    """Frames of one VM never reach the other's tap, even when the daemon does not request isolation."""
    answers, strays = map(int, host.drive(TWO_MACHINES).split())
    assert answers >= 1, "the host did not answer"
    assert strays == 0


def test_a_tap_on_a_bridge_that_no_file_names_is_refused(host: Host) -> None:
    sh("ip", "-n", host.name, "link", "add", "br-other", "type", "bridge")
    for bridge in ("cloudbr9", "br-other", "lo", "cloud0; reboot"):
        answer = host.send_request(do="make-tap", name="t0000000001-0", bridge=bridge, isolated=False)
        assert f"bridge {bridge} for tap" in answer
    sh("ip", "-n", host.name, "link", "del", "br-other")


def test_a_foreign_interface_with_a_taps_name_is_not_changed(host: Host) -> None:
    name = "t0000000009-0"
    sh("ip", "-n", host.name, "link", "add", name, "type", "bridge")
    for request in (
        {"do": "remove-tap", "name": name},
        {"do": "make-tap", "name": name, "bridge": "cloud0", "isolated": True},
    ):
        assert "is not a tap" in host.send_request(**request)
    assert name in links_of(host)
    sh("ip", "-n", host.name, "link", "del", name)
