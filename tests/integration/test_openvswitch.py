# SPDX-License-Identifier: Apache-2.0
"""Bridges of a real Open vSwitch: what machines on them reach, and what is left when something ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from integration.network_lab import BRIDGES, CONNECT_S, PROBE, links_of, sh
from integration.openvswitch_lab import Machine, OpenVSwitchHost, host, machine
from systemvm.nethelper.hybrid_plug import HybridPlug
from systemvm.service.slowness import scaled_s

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["host"]  # the fixture

ONE, TWO, THREE = "t0000000001-0", "t0000000002-0", "t0000000003-0"
HOST, NEIGHBOUR = "10.13.0.1", "10.13.0.100"
SIZE = 3_000_000
RECEIVE = """
import socket
with socket.create_server(("0.0.0.0", 5001)) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    count = 0
    while data := connection.recv(65536):
        count += len(data)
    connection.sendall(str(count).encode())
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5001), 100) as connection:
    connection.sendall(bytes(int(sys.argv[2])))
    connection.shutdown(socket.SHUT_WR)
    print(connection.recv(64).decode())
"""
#: Prints what the operation `ensure` answers about bridges that cannot be.
ENSURE = "print({bridge: error.message for bridge, error in (await driver.ensure()).items()})"


@pytest.fixture
def one(host: OpenVSwitchHost) -> Iterator[Machine]:
    with machine(host, ONE, "cloudbr3", "10.13.0.51/24") as made:
        yield made


def reached(namespace: str, *targets: tuple[str, int]) -> list[bool]:
    given = json.dumps([(*target, None) for target in targets])
    connect_s = str(scaled_s(CONNECT_S))
    answer = sh("ip", "netns", "exec", namespace, sys.executable, "-c", PROBE, connect_s, stdin=given)
    result: list[bool] = json.loads(answer)
    return result


def sent(source: str, target: str, address: str) -> int:
    """Send bytes over TCP from one namespace to another; return how many have arrived."""
    command = ["ip", "netns", "exec", target, sys.executable, "-c", RECEIVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as receiver:
        try:
            assert receiver.stdout and receiver.stdout.readline() == b"ready\n"
            send = (sys.executable, "-c", SEND, address, str(SIZE))
            return int(sh("ip", "netns", "exec", source, *send))
        finally:
            receiver.kill()


def left(host: OpenVSwitchHost, tap: str) -> list[str]:
    """Return the links and the port that a tap has."""
    plug = HybridPlug(tap)
    names = {tap, plug.bridge, plug.near, plug.far}
    ports = host.switch.vsctl("--bare", "--columns=name", "list", "port").split()
    return sorted(names & links_of(host).keys()) + [name for name in ports if name == plug.far]


def test_machines_exchange_data_with_the_host_a_neighbour_and_each_other(
    host: OpenVSwitchHost, one: Machine
) -> None:
    """Large segments and checksums that a machine leaves to its device arrive whole, too."""
    assert sent(one.name, host.name, HOST) == SIZE
    assert sent(host.name, one.name, "10.13.0.51") == SIZE
    assert sent(one.name, host.neighbours["cloudbr3"], NEIGHBOUR) == SIZE
    with machine(host, TWO, "cloudbr3", "10.13.0.52/24") as two:
        assert sent(one.name, two.name, "10.13.0.52") == SIZE


def test_the_links_of_a_tap_lead_to_no_address_of_the_host(host: OpenVSwitchHost, one: Machine) -> None:
    """The kernel gets the frames of these links, and a machine can send to their MACs."""
    inside = ("ip", "-n", one.name)
    others = ["10.11.0.1", "10.12.0.1", "203.0.113.1"]
    sh(*inside, "route", "add", "default", "dev", "eth0")
    assert reached(one.name, (HOST, 2049), *((address, 2049) for address in others)) == [True, *[False] * 3]
    neighbours = {row["dst"]: row for row in json.loads(sh(*inside, "-j", "neigh"))}
    assert [neighbours[address].get("lladdr") for address in others] == [None] * 3, "ARP was answered"
    links = links_of(host)
    plug = HybridPlug(ONE)
    for name in (plug.bridge, plug.far):
        for address in (HOST, *others):
            mac = links[name]["address"]
            sh(*inside, "neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        assert reached(one.name, *((address, 2049) for address in (HOST, *others))) == [False] * 4


def test_vlans_of_machines_are_apart(host: OpenVSwitchHost) -> None:
    with (
        machine(host, ONE, "cloudbr0", "203.0.113.51/24", vlan=100) as one,
        machine(host, TWO, "cloudbr0", "203.0.113.52/24", vlan=200),
        machine(host, THREE, "cloudbr0", "203.0.113.53/24", vlan=100) as three,
    ):
        assert sent(one.name, three.name, "203.0.113.53") == SIZE
        assert reached(one.name, ("203.0.113.1", 2049), ("203.0.113.100", 2049)) == [False] * 2
        # a closed port answers, too: without an answer there is no neighbour
        assert reached(one.name, ("203.0.113.52", 5001)) == [False]
        [row] = [
            row for row in json.loads(sh("ip", "-n", one.name, "-j", "neigh")) if row["dst"] == "203.0.113.52"
        ]
        assert "lladdr" not in row


def test_a_machine_sends_from_its_own_mac_and_address_only(host: OpenVSwitchHost, one: Machine) -> None:
    [link] = json.loads(sh("ip", "-n", one.name, "-j", "link", "show", "eth0"))
    bound = f"BoundGuest({ONE!r}, {link['address']!r}, ipaddress.ip_address('10.13.0.51'))"
    bind = "from systemvm.host.guest_filter import BoundGuest\nawait driver.bind_guests([{}])"
    host.drive(bind.format(bound))
    try:
        assert reached(one.name, (HOST, 2049)) == [True]
        inside = ("ip", "-n", one.name)
        sh(*inside, "addr", "add", "10.13.0.77/24", "dev", "eth0")
        sh(*inside, "addr", "del", "10.13.0.51/24", "dev", "eth0")
        assert reached(one.name, (HOST, 2049)) == [False], "another address passed"
        sh(*inside, "addr", "flush", "dev", "eth0")
        sh(*inside, "addr", "add", "10.13.0.51/24", "dev", "eth0")
        sh(*inside, "link", "set", "eth0", "address", "02:00:00:00:00:77")
        assert reached(one.name, (HOST, 2049)) == [False], "another MAC passed"
    finally:
        host.drive(bind.format(""))


def test_a_restarted_switch_continues_with_machines_and_addresses(
    host: OpenVSwitchHost, one: Machine
) -> None:
    host.switch.kill("ovs-vswitchd")
    assert reached(one.name, (HOST, 2049)) == [False]
    host.switch.start_switch()
    assert reached(one.name, (HOST, 2049), (NEIGHBOUR, 2049)) == [True, True]
    assert host.drive(ENSURE).strip() == "{}"
    assert sent(one.name, host.name, HOST) == SIZE


def test_what_a_killed_machine_has_left_is_removed(host: OpenVSwitchHost) -> None:
    killed = Machine(host, TWO, "cloudbr3", "10.13.0.52/24")
    with machine(host, ONE, "cloudbr3", "10.13.0.51/24") as one:
        assert len(left(host, TWO)) == 5
        killed.stop()
        assert len(left(host, TWO)) == 4
        host.drive(ENSURE)
        assert left(host, TWO) == []
        assert len(left(host, ONE)) == 5
        assert reached(one.name, (HOST, 2049)) == [True]
    assert left(host, ONE) == []


def test_ports_that_outlived_their_links_are_removed(host: OpenVSwitchHost) -> None:
    """As after a restart of the host: the database has the ports of all machines that ran."""
    with machine(host, ONE, "cloudbr3", "10.13.0.51/24"):
        pass
    far = HybridPlug(TWO).far
    port = ("add-port", "cloudbr3", far, "--", "set", "port", far, f'external_ids:systemvm-tap="{TWO}"')
    host.switch.vsctl(*port)
    assert left(host, TWO) == [far]
    host.drive(ENSURE)
    assert left(host, TWO) == []


def test_the_helper_reports_the_ports_of_taps(host: OpenVSwitchHost, one: Machine) -> None:
    assert f"'{ONE}': {{'bridge': 'cloudbr3', 'isolated': False}}" in host.send_request(do="state")


def test_a_vlan_that_the_file_does_not_name_is_refused(host: OpenVSwitchHost) -> None:
    wanted = {"do": "make-tap", "name": ONE, "bridge": "cloudbr0", "isolated": False, "vlan": 300}
    assert "bridge cloudbr0 has no VLAN 300" in host.send_request(**wanted)
    assert left(host, ONE) == []


def test_a_foreign_interface_with_a_name_of_the_helpers_is_not_changed(host: OpenVSwitchHost) -> None:
    name = HybridPlug(ONE).bridge
    sh("ip", "-n", host.name, "link", "add", name, "type", "bridge")
    wanted = {"do": "make-tap", "name": ONE, "bridge": "cloudbr3", "isolated": False}
    assert f"{name} was not made by this helper" in host.send_request(**wanted)
    assert left(host, ONE) == [name]
    sh("ip", "-n", host.name, "link", "del", name)


def test_without_a_running_switch_its_bridges_are_refused_and_the_control_network_works(
    host: OpenVSwitchHost,
) -> None:
    wanted = {"do": "make-tap", "name": ONE, "bridge": "cloudbr3", "isolated": False}
    host.switch.kill("ovs-vswitchd")
    try:
        assert "ovs-vswitchd does not run on this host" in host.send_request(**wanted)
        assert left(host, ONE) == []
        host.switch.stop()
        refused = "Open vSwitch does not run on this host"
        assert refused in host.send_request(**wanted)
        answer = host.drive(ENSURE)
        assert answer.count(refused) == len(BRIDGES) - 1 and "cloud0" not in answer
        assert host.reached("cloud0", [("169.254.0.1", 8250, None)]) == [True]
    finally:
        host.switch.stop()
        host.switch.start()
    assert host.drive(ENSURE).strip() == "{}"


def test_a_datapath_that_the_kernel_or_the_bridge_lacks_is_refused(host: OpenVSwitchHost) -> None:
    path = host.layout.etc / "host.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("datapath: netdev", "datapath: system", 1))
        assert "cloudbr1 has datapath netdev, not system" in host.drive(ENSURE)
        more = "\n".join(["  ovs9:", "    traffic_types: [guest]", "    kind: openvswitch"])
        path.write_text(f"{text.rstrip()}\n{more}\n")
        answer = host.drive(ENSURE).strip()
        if answer != "{}":  # a kernel with the module makes it
            assert answer == "{'ovs9': 'Open vSwitch cannot make bridge ovs9 with datapath system'}"
            assert "ovs9" not in host.switch.vsctl("list-br").split()
    finally:
        path.write_text(text)
        host.switch.vsctl("--if-exists", "del-br", "ovs9")
