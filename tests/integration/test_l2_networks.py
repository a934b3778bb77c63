# SPDX-License-Identifier: Apache-2.0
"""The filter of ports leaves L2 networks to their accounts, and holds everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.guest_frames import bind, frames_of, passed
from integration.guest_machine import BRIDGE, Machine
from integration.network_lab import Host, host
from systemvm.host.host_file import FILE_NAME

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["host"]  # the fixture

HOST_FILE = "labels: {cloudbr3: {traffic_types: [guest], vlans: [100]}}\n"
L2_BRIDGE = "cloudbr3-100"
MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
ADDRESS, PEER_ADDRESS = "10.13.0.50", "10.13.0.51"
L2_PORT, PEER_PORT, GUEST_PORT = "t0000000001-0", "t0000000002-0", "t0000000001-1"


@pytest.fixture
def l2_network(host: Host, tmp_path: Path) -> Iterator[tuple[Machine, Machine, Machine]]:
    """Two machines of an L2 network, and one of the guest bridge with the first one's MAC and address."""
    (host.layout.etc / FILE_NAME).write_text(HOST_FILE)
    make = "from systemvm.host.guest_vlans import GuestLink\nprint(await driver.make_guest_links([{}]))"
    assert host.drive(make.format('GuestLink("cloudbr3", 100)')).strip() == "{}"
    with ExitStack() as stack:
        stack.callback(host.drive, make.format(""))
        stack.callback(bind, host)
        made = []
        for port, bridge in ((L2_PORT, L2_BRIDGE), (PEER_PORT, L2_BRIDGE), (GUEST_PORT, BRIDGE)):
            machine = Machine(host, tmp_path, port, bridge)
            stack.callback(machine.close)
            made.append(machine)
        one, peer, guest = made
        one.use(MAC, ADDRESS)
        peer.use(PEER_MAC, PEER_ADDRESS)
        guest.use(MAC, ADDRESS)
        # the cloud gave both addresses and both MACs to machines of the guest bridge
        bound = ((GUEST_PORT, MAC, ADDRESS), ("t0000000009-0", PEER_MAC, PEER_ADDRESS))
        bind(host, *bound, l2_ports=[L2_PORT, PEER_PORT])
        yield one, peer, guest


def test_a_machine_serves_dhcp_and_routes_on_its_l2_network_only(
    host: Host, l2_network: tuple[Machine, Machine, Machine]
) -> None:
    one, peer, guest = l2_network
    frames = frames_of(MAC)
    assert passed(peer.name, one, frames) == set(frames)
    # another NIC of the same machine is filtered as that of any other
    assert passed(host.neighbours[BRIDGE], guest, frames) == {"its own ARP"}


def test_an_address_on_an_l2_network_can_be_that_of_another_machine(
    host: Host, l2_network: tuple[Machine, Machine, Machine]
) -> None:
    one, peer, guest = l2_network
    peer.listen(8080)
    assert one.connects(PEER_ADDRESS, 8080)
    assert guest.connects("10.13.0.100", 2049)
    # it reaches nothing of the host by it
    assert not one.connects("10.13.0.1", 2049)
    # without its place in the filter it is cut off
    bind(host, ("t0000000009-0", PEER_MAC, PEER_ADDRESS), (GUEST_PORT, MAC, ADDRESS))
    assert not one.connects(PEER_ADDRESS, 8080)


def test_a_frame_with_a_vlan_tag_does_not_pass_on_an_l2_network_either(
    l2_network: tuple[Machine, Machine, Machine],
) -> None:
    one, peer, _ = l2_network
    start, own = "ffffffffffff" + MAC.replace(":", ""), frames_of(MAC)["its own ARP"]
    sent = {tag: f"{start}8100{tag}0806{tag}" + 26 * "00" for tag in ("0000", "0065")}
    # the kernel of the receiver takes the tag off
    received = {tag: f"{start}0806{tag}" for tag in sent}
    assert passed(peer.name, one, {**sent, "ARP": own}, received=received) == {"ARP"}
