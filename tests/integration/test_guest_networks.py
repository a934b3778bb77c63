# SPDX-License-Identifier: Apache-2.0
"""DHCP and DNS on a guest bridge: real dnsmasq, asked by busybox's clients from the bridge's ports."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from integration.daemon_lab import until
from integration.guest_frames import bind, frames_of, passed
from integration.guest_machine import BRIDGE, Machine, dnsmasq_of, processes_of, services
from integration.network_lab import Host, host, sh
from systemvm.host.guest_filter import removal
from systemvm.host.guest_services import (
    Guest,
    GuestBridge,
    GuestData,
    GuestPassword,
    GuestSubnet,
    encode,
    encode_data,
)
from systemvm.host.layout import GUEST_SERVICES_USER
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["host", "services"]  # the fixtures

OTHER_BRIDGE = "cloudbr4"
MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
PORT, OTHER_PORT = "t0000000001-0", "t0000000002-0"
WEB = Guest(MAC, IPv4Address("10.13.0.50"), "web", is_here=True)
DB = Guest("02:00:00:00:00:03", IPv4Address("10.13.0.51"), "db", is_here=False)


@pytest.fixture(scope="module")
def machine(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(host, tmp_path_factory.mktemp("machine"), PORT)
    yield machine
    machine.close()


def serve(host: Host, *guests: Guest, bridge: str = BRIDGE, cidr: str = "10.13.0.0/24") -> str:
    """Have the helper serve a bridge, or none when there are no guests; return what failed."""
    subnet = GuestSubnet(IPv4Network(cidr), IPv4Address("10.13.0.254"), "zone1.test", guests)
    bridges: Sequence[GuestBridge] = [GuestBridge(bridge, (subnet,))] if guests else []
    return host.drive(f"print(await services.serve(decode({encode(bridges)!r})))").strip()


def put_data(host: Host, guest: Guest, data: GuestData, bridge: str = BRIDGE) -> None:
    arguments = f"{bridge!r}, ipaddress.ip_address({str(guest.address)!r}), {guest.mac!r}"
    host.drive(f"await services.put_data({arguments}, decode_data({encode_data(data)!r}))")


def test_a_machine_gets_its_own_address_and_a_stranger_none(
    host: Host, services: ChildProcess, machine: Machine
) -> None:
    assert serve(host, WEB, DB) == "{}"
    lease = machine.lease(MAC)
    assert lease["ip"] == "10.13.0.50"
    assert lease["subnet"] == "255.255.255.0"
    assert lease["router"] == "10.13.0.254"
    assert lease["dns"] == lease["serverid"] == "10.13.0.1"
    assert (lease["hostname"], lease["domain"]) == ("web", "zone1.test")
    assert machine.lease(OTHER_MAC, tries=2) == {}
    # a machine of another host gets its lease there
    assert machine.lease(DB.mac, tries=2) == {}


def test_names_of_machines_and_of_the_metadata_service_are_answered(
    host: Host, services: ChildProcess, machine: Machine
) -> None:
    serve(host, WEB, DB)
    machine.lease(MAC)
    assert machine.ask("db.zone1.test") == ["10.13.0.51"]
    assert machine.ask("web") == ["10.13.0.50"]
    assert machine.ask("data-server") == machine.ask("data-server.zone1.test") == ["10.13.0.1"]
    assert machine.ask("nobody.zone1.test") == []


def test_an_address_that_was_taken_back_is_given_to_another_machine(
    host: Host, services: ChildProcess, machine: Machine
) -> None:
    serve(host, WEB)
    [before] = dnsmasq_of(host)
    serve(host, WEB, DB)
    assert [*dnsmasq_of(host)] == [before]  # a new machine does not interrupt the service of others
    machine.lease(MAC)
    serve(host, Guest(OTHER_MAC, WEB.address, "next", is_here=True))
    assert machine.lease(OTHER_MAC)["ip"] == "10.13.0.50"
    assert machine.lease(MAC, tries=2) == {}


def test_a_machine_gets_its_own_data_and_no_other(
    host: Host, services: ChildProcess, machine: Machine
) -> None:
    near = Guest(OTHER_MAC, IPv4Address("10.13.0.52"), "near", is_here=True)
    serve(host, WEB, near)
    put_data(host, WEB, GuestData({"instance-id": "of web"}, b"script of web"))
    put_data(host, near, GuestData({"instance-id": "of near"}))
    machine.lease(MAC)
    assert machine.get("/latest/meta-data/") == (200, "instance-id\n")
    assert machine.get("/latest/meta-data/instance-id") == (200, "of web")
    assert machine.get("/latest/user-data") == (200, "script of web")
    forwarded = ("-H", "X-Forwarded-For: 10.13.0.52")
    assert machine.get("/latest/meta-data/instance-id", *forwarded) == (200, "of web")
    assert machine.get("/latest/user-data", "-X", "POST")[0] == 405
    assert machine.get("/latest/user-data", "-d", "body")[0] == 413
    machine.lease(OTHER_MAC)
    assert machine.get("/latest/meta-data/instance-id") == (200, "of near")
    assert machine.get("/latest/user-data")[0] == 404
    # the other one is expunged, and a third gets its address before its own data
    serve(host, WEB, Guest("02:00:00:00:00:04", near.address, "third", is_here=True))
    assert machine.get("/latest/meta-data/instance-id")[0] == 404


def test_a_machine_takes_its_own_password_once(host: Host, services: ChildProcess, machine: Machine) -> None:
    near = Guest(OTHER_MAC, IPv4Address("10.13.0.52"), "near", is_here=True)
    serve(host, WEB, near)
    put_data(host, WEB, GuestData({}, password=GuestPassword("a1", "of web")))
    put_data(host, near, GuestData({}, password=GuestPassword("b2", "of near")))
    machine.lease(MAC)
    assert machine.password("send_my_password") == (200, "of web")
    [server] = processes_of(host, "--metadata")
    os.kill(server, signal.SIGKILL)  # between the two requests of its client
    until(lambda: server not in processes_of(host, "--metadata"), "its end")
    serve(host, WEB, near)
    assert machine.password("send_my_password") == (200, "of web")
    assert machine.password("saved_password") == (200, "saved_password")
    assert machine.password("send_my_password") == (200, "saved_password")
    assert host.drive("print(await services.taken_passwords())").strip() == "['a1']"
    assert machine.get("/", address="10.13.0.1:8080") == (400, "bad_request")
    assert machine.password("send_my_password", "-X", "POST")[0] == 400
    assert machine.get("/latest/meta-data/", address="10.13.0.1:8080")[0] == 400
    # wherever it says that it is
    forwarded = ("-H", "X-Forwarded-For: 10.13.0.52")
    assert machine.password("send_my_password", *forwarded) == (200, "saved_password")
    data = host.layout.guest_services / BRIDGE / "data"
    assert b"of web" not in b"".join(path.read_bytes() for path in data.iterdir())
    # near is expunged, and a third has its address before data of its own
    serve(host, WEB, Guest("02:00:00:00:00:04", near.address, "third", is_here=True))
    machine.lease("02:00:00:00:00:04")
    assert machine.password("send_my_password") == (200, "saved_password")


def test_a_machine_cannot_use_the_address_of_another(
    host: Host, services: ChildProcess, machine: Machine, tmp_path: Path
) -> None:
    near = Guest(OTHER_MAC, IPv4Address("10.13.0.52"), "near", is_here=True)
    serve(host, WEB, near)
    put_data(host, WEB, GuestData({"instance-id": "of web"}))
    put_data(host, near, GuestData({"instance-id": "of near"}))
    bind(host, (PORT, MAC, "10.13.0.50"))
    path = "/latest/meta-data/instance-id"
    machine.lease(MAC)
    assert machine.get(path) == (200, "of web")
    machine.use(MAC, "10.13.0.52")
    assert machine.get(path, "-m", "3")[0] == 0
    machine.use(OTHER_MAC, "10.13.0.50")
    assert machine.get(path, "-m", "3")[0] == 0
    # a machine whose address the cloud did not give can take a free one, and not that of another
    other = Machine(host, tmp_path, OTHER_PORT)
    try:
        other.use("02:00:00:00:00:09", "10.13.0.50")
        assert other.get(path, "-m", "3")[0] == 0
        other.use("02:00:00:00:00:09", "10.13.0.77")
        assert other.get(path)[0] == 404
        machine.use(MAC, "10.13.0.50")
        assert machine.get(path) == (200, "of web")
    finally:
        other.close()
        bind(host)
    machine.use(OTHER_MAC, "10.13.0.52")
    assert machine.get(path) == (200, "of near")  # without the filter, so that it is what refused


@pytest.mark.parametrize("tags", ["", "81000000", "8100000081000000", "88a8000081000000"])
def test_a_frame_with_vlan_tags_does_not_pass_the_filter(
    host: Host, services: ChildProcess, machine: Machine, tags: str
) -> None:
    bridge_mac = sh("ip", "netns", "exec", host.name, "cat", f"/sys/class/net/{BRIDGE}/address").strip()
    destination, source = bridge_mac.replace(":", ""), MAC.replace(":", "")
    sh("ip", "-n", machine.name, "link", "set", "eth0", "address", MAC, "up")
    answer = f"{tags}08060001080006040002{source}0a0d0034{destination}0a0d0001"  # as 10.13.0.52
    datagram = f"{tags}08004500001c00010000401166820a0d00340a0d00011000005000080000"
    sh("ip", "netns", "exec", host.name, "nft", "-f", "-", stdin=removal())
    assert _passed(host, machine, answer, datagram, destination + source)
    bind(host, (PORT, MAC, "10.13.0.50"))
    try:
        assert not _passed(host, machine, answer, datagram, destination + source)
    finally:
        bind(host)


def _passed(host: Host, machine: Machine, answer: str, datagram: str, ends: str) -> bool:
    """Return whether the host takes the ARP answer or the UDP datagram, which name another's address."""
    # a known neighbour's new MAC is taken from an answer, at once
    sh("ip", "netns", "exec", host.name, "sysctl", "-qw", f"net.ipv4.neigh.{BRIDGE}.locktime=0")
    known = ("10.13.0.52", "lladdr", DB.mac, "dev", BRIDGE, "nud", "stale")
    sh("ip", "-n", host.name, "neigh", "replace", *known)
    before = _datagrams(host)
    for _ in range(10):
        machine.send(ends + answer, ends + datagram)
        neighbours = sh("ip", "-n", host.name, "neigh", "show", "10.13.0.52", "dev", BRIDGE)
        if MAC in neighbours or _datagrams(host) > before:
            return True
        time.sleep(0.1)
    return False


def _datagrams(host: Host) -> int:
    """Return how many datagrams have come to ports of the host without a listener."""
    lines = sh("ip", "netns", "exec", host.name, "cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("NoPorts")])


def test_a_machine_is_no_router_and_gives_no_addresses(
    host: Host, services: ChildProcess, machine: Machine
) -> None:
    frames, listener = frames_of(MAC), host.neighbours[BRIDGE]
    sh("ip", "-n", machine.name, "link", "set", "eth0", "address", MAC, "up")
    sh("ip", "netns", "exec", host.name, "nft", "-f", "-", stdin=removal())
    assert passed(listener, machine, frames) == set(frames)
    bind(host)
    addressless = passed(listener, machine, frames)
    bind(host, (PORT, MAC, "10.13.0.50"))
    try:
        assert passed(listener, machine, frames) == {"its own ARP"}
    finally:
        bind(host)
    # the cloud does not know which addresses such a machine has
    assert addressless == {
        "neighbour advertisement", "ARP for another", "ARP with another's MAC", "its own ARP"
    }  # fmt: skip


HOST_FILE = f"labels:\n  {OTHER_BRIDGE}:\n    traffic_types: [guest]\n    addresses: [10.14.0.1/24]\n"


def test_each_bridge_has_the_common_address_of_metadata(
    host: Host, services: ChildProcess, machine: Machine, tmp_path: Path
) -> None:
    (host.layout.etc / "host.yaml").write_text(HOST_FILE)
    host.drive("await driver.ensure()")
    far = Guest(OTHER_MAC, IPv4Address("10.14.0.50"), "far", is_here=True)
    subnets = {
        bridge: GuestSubnet(IPv4Network(cidr), IPv4Address(gateway), "zone1.test", (guest,))
        for bridge, cidr, gateway, guest in (
            (BRIDGE, "10.13.0.0/24", "10.13.0.254", WEB),
            (OTHER_BRIDGE, "10.14.0.0/24", "10.14.0.254", far),
        )
    }
    bridges = [GuestBridge(bridge, (subnet,)) for bridge, subnet in subnets.items()]
    other = Machine(host, tmp_path, OTHER_PORT, OTHER_BRIDGE)
    try:
        assert host.drive(f"print(await services.serve(decode({encode(bridges)!r})))").strip() == "{}"
        put_data(host, WEB, GuestData({"instance-id": "of web"}))
        put_data(host, far, GuestData({"instance-id": "of far"}), OTHER_BRIDGE)
        bind(host, (PORT, MAC, "10.13.0.50"), (OTHER_PORT, OTHER_MAC, "10.14.0.50"))
        for each, mac, own, name in (
            (machine, MAC, "10.13.0.1", "of web"),
            (other, OTHER_MAC, "10.14.0.1", "of far"),
        ):
            lease = each.lease(mac)
            route = f"169.254.169.254/32 {own}"
            assert lease["staticroutes"] == f"{route} 0.0.0.0/0 {lease['router']}"
            sh("ip", "-n", each.name, "route", "replace", *route.replace(" ", " via ").split())
            path = "/latest/meta-data/instance-id"
            assert each.get(path, address="169.254.169.254") == (200, name)
            forbidden = each.get(path, "-m", "3", address="169.254.169.254:8250")
            assert forbidden[0] == 0
        # the control network is another link with the same addresses
        assert host.reached("cloud0", [("169.254.169.254", 80, None), ("169.254.0.1", 8250, None)]) == [
            False, True
        ]  # fmt: skip
    finally:
        bind(host)
        other.close()
        (host.layout.etc / "host.yaml").unlink()
        sh("ip", "-n", host.name, "link", "del", OTHER_BRIDGE)
        host.drive("await driver.ensure()")


def test_the_metadata_server_has_no_capability_and_is_replaced_when_it_ended(
    host: Host, services: ChildProcess, machine: Machine
) -> None:
    serve(host, WEB)
    put_data(host, WEB, GuestData({"instance-id": "of web"}))
    machine.lease(MAC)
    assert machine.get("/latest/meta-data/instance-id")[0] == 200
    [(pid, status)] = processes_of(host, "--metadata").items()
    assert status["CapEff"] == status["CapPrm"] == status["CapAmb"] == f"{0:016x}"
    assert "0" not in status["Uid"].split()
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in processes_of(host, "--metadata"), "its end")
    serve(host, WEB)
    assert machine.get("/latest/meta-data/instance-id") == (200, "of web")


def test_dnsmasq_has_its_own_user_and_few_capabilities(host: Host, services: ChildProcess) -> None:
    serve(host, WEB)
    [status] = dnsmasq_of(host).values()
    assert status["CapBnd"] == status["CapEff"] == f"{1 << 12 | 1 << 10:016x}"  # net_admin, net_bind_service
    assert status["NoNewPrivs"] == "1"
    assert "0" not in status["Uid"].split()
    owner = (host.layout.guest_services / BRIDGE).owner()
    assert owner == GUEST_SERVICES_USER


def test_a_helper_that_is_started_again_keeps_the_process(host: Host, services: ChildProcess) -> None:
    serve(host, WEB)
    [before] = dnsmasq_of(host)
    services.kill()
    again = host.start_helper(HostProgram.GUEST_SERVICES)
    try:
        serve(host, WEB)
        assert [*dnsmasq_of(host)] == [before]
        serve(host)
        assert dnsmasq_of(host) == processes_of(host, "--metadata") == {}
        assert [*host.layout.guest_services.iterdir()] == []
    finally:
        again.stop()


@pytest.mark.parametrize("bridge", ["cloud0", "cloudbr1", "nobridge", "../../etc"])
def test_only_guest_bridges_of_roots_files_are_served(
    host: Host, services: ChildProcess, bridge: str
) -> None:
    assert "carries no guest traffic of this host" in serve(host, WEB, bridge=bridge)
    assert dnsmasq_of(host) == {}
