# SPDX-License-Identifier: Apache-2.0
"""Guest VLANs of a host: each has its own bridge, lease, name and user data, and no frame crosses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from integration.guest_machine import Machine, dnsmasq_of, services
from integration.network_lab import Host, host, links_of, sh
from systemvm.host.firewall import GUEST_LINK_GROUP
from systemvm.host.guest_services import Guest, GuestBridge, GuestData, GuestSubnet, encode, encode_data
from systemvm.host.host_file import FILE_NAME
from systemvm.host.layout import DAEMON_USER
from systemvm.lab.children import ChildProcess

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["host", "services"]  # the fixtures

HOST_FILE = """
labels:
  cloudbr3:
    traffic_types: [guest]
    vlans: [100-102, 200]
    guest_cidr: 10.1.0.0/16
    vlan_addresses: {200: [10.20.0.2/24]}
"""
RED, BLUE, SHARED = "cloudbr3-100", "cloudbr3-101", "cloudbr3-200"
ONE = Guest("02:00:00:00:01:01", IPv4Address("10.1.1.5"), "one", is_here=True)
TWO = Guest("02:00:00:00:01:02", IPv4Address("10.1.2.5"), "two", is_here=True)
BOTH = [("cloudbr3", 100, "10.1.1.1/24"), ("cloudbr3", 101, "10.1.2.1/24")]
DATA = "/latest/meta-data/instance-id"


@pytest.fixture(autouse=True)
def host_file(host: Host) -> Iterator[Path]:
    path = host.layout.etc / FILE_NAME
    path.write_text(HOST_FILE)
    yield path
    path.write_text(HOST_FILE)
    make_links(host)


@pytest.fixture
def served(host: Host, services: ChildProcess, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two isolated networks with a machine on each."""
    assert make_links(host, *BOTH) == {}
    assert serve(host, bridge(RED, "10.1.1", ONE), bridge(BLUE, "10.1.2", TWO)) == "{}"
    machines = (
        Machine(host, tmp_path, "t0000000001-0", bridge=RED, server="10.1.1.1"),
        Machine(host, tmp_path, "t0000000002-0", bridge=BLUE, server="10.1.2.1"),
    )
    yield machines
    for machine in machines:
        machine.close()


def make_links(host: Host, *links: tuple[str, int, str | None]) -> dict[str, str]:
    """Have the helper make exactly these; return why some failed."""
    made = ", ".join(
        f"GuestLink({name!r}, {vlan}, {f'ipaddress.ip_interface({address!r})' if address else None})"
        for name, vlan, address in links
    )
    answer = host.drive(
        f"""
        import json
        from systemvm.host.guest_vlans import GuestLink
        failed = await driver.make_guest_links([{made}])
        print(json.dumps({{bridge: str(error) for bridge, error in failed.items()}}))
        """
    )
    found: dict[str, str] = json.loads(answer)
    return found


def bridge(name: str, prefix: str, *guests: Guest) -> GuestBridge:
    own = IPv4Address(f"{prefix}.1")
    subnet = GuestSubnet(IPv4Network(f"{prefix}.0/24"), None, f"{name}.test", guests, own)
    return GuestBridge(name, (subnet,))


def serve(host: Host, *bridges: GuestBridge) -> str:
    return host.drive(f"print(await services.serve(decode({encode(bridges)!r})))").strip()


def put_data(host: Host, name: str, guest: Guest, text: str) -> None:
    data = encode_data(GuestData({"instance-id": text}))
    arguments = f"{name!r}, ipaddress.ip_address({str(guest.address)!r}), {guest.mac!r}"
    host.drive(f"await services.put_data({arguments}, decode_data({data!r}))")


def addresses_of(host: Host, name: str) -> list[str]:
    [found] = json.loads(sh("ip", "-n", host.name, "-j", "-4", "addr", "show", "dev", name))
    return [f"{each['local']}/{each['prefixlen']}" for each in found["addr_info"]]


def test_each_machine_gets_its_own_lease_name_and_data(host: Host, served: tuple[Machine, Machine]) -> None:
    one, two = served
    for machine, guest, name in ((one, ONE, RED), (two, TWO, BLUE)):
        put_data(host, name, guest, f"of {guest.name}")
        lease = machine.lease(guest.mac)
        assert (lease["ip"], lease["hostname"], lease["domain"]) == (
            str(guest.address), guest.name, f"{name}.test",
        )  # fmt: skip
        assert "router" not in lease  # nothing is behind the host
        assert machine.get(DATA) == (200, f"of {guest.name}")
        own = lease["serverid"]
        assert lease["staticroutes"] == f"169.254.169.254/32 {own}"
        sh("ip", "-n", machine.name, "route", "add", "169.254.169.254", "via", own)
        assert machine.get(DATA, address="169.254.169.254") == (200, f"of {guest.name}")
    assert one.ask("one") == ["10.1.1.5"]
    assert one.ask("two") == one.ask(f"two.{BLUE}.test") == []
    # a machine of one network gets no lease on another
    assert one.lease(TWO.mac, tries=2) == {}


def test_no_frame_crosses_from_one_network_to_another(host: Host, served: tuple[Machine, Machine]) -> None:
    one, two = served
    put_data(host, RED, ONE, "of one")
    put_data(host, BLUE, TWO, "of two")
    one.lease(ONE.mac)
    two.lease(TWO.mac)
    # the host forwards (ip_forward is 1 in this lab), and each machine tries by the host
    for machine, gateway in ((one, "10.1.1.1"), (two, "10.1.2.1")):
        sh("ip", "-n", machine.name, "route", "add", "default", "via", gateway)
    two.listen(8080)
    assert two.connects("10.1.2.5", 8080)
    assert not one.connects("10.1.2.5", 8080)
    # nor the host's address in the other network, nor in any other of its networks, nor its other ports
    assert not one.connects("10.1.2.1", 80)
    assert not one.connects("10.13.0.1", 2049)
    assert not one.connects("169.254.0.1", 8250)
    assert not one.connects("10.1.1.1", 2049)
    assert one.connects("10.1.1.1", 80)
    # and a neighbour on the shared guest bridge does not reach an isolated network
    assert host.reached("cloudbr3", [("10.1.2.1", 80, None), ("10.1.2.5", 8080, None)]) == [False, False]
    # frames: ARP for the other machine is not answered
    two_mac = two.mac()
    sh("ip", "-n", one.name, "addr", "add", "10.1.2.77/24", "dev", "eth0")
    assert not one.connects("10.1.2.5", 8080)
    assert two_mac not in sh("ip", "-n", one.name, "neigh")
    # the host takes no connection under another network's address
    assert one.get(DATA, "--interface", "10.1.2.77", "-m", "3")[0] == 0


def test_links_are_made_again_and_removed(host: Host) -> None:
    assert make_links(host, *BOTH) == {}
    assert make_links(host, *BOTH) == {}
    assert addresses_of(host, RED) == ["10.1.1.1/24"]
    # a VLAN that was given back and taken by another network has only the address of that
    assert make_links(host, ("cloudbr3", 100, "10.1.7.1/24")) == {}
    assert addresses_of(host, RED) == ["10.1.7.1/24"]
    assert BLUE not in links_of(host)
    assert make_links(host) == {}
    assert RED not in links_of(host)


def test_a_shared_network_has_the_address_of_roots_file(host: Host, services: ChildProcess) -> None:
    assert make_links(host, ("cloudbr3", 200, None)) == {}
    assert addresses_of(host, SHARED) == ["10.20.0.2/24"]
    assert serve(host, bridge(SHARED, "10.20.0")) == "{}"
    assert len(dnsmasq_of(host)) == 1
    # no request gives it another
    assert "guest_cidr" in make_links(host, ("cloudbr3", 200, "10.1.9.1/24"))[SHARED]


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (("cloudbr3", 300, "10.1.1.1/24"), "this host has no guest VLAN 300"),
        (("cloudbr0", 100, "10.1.1.1/24"), "this host has no guest VLAN 100"),
        (("../../x", 100, "10.1.1.1/24"), "this host has no guest VLAN 100"),
        (("cloudbr3", 100, "10.2.1.1/24"), "is not in guest_cidr"),
        (("cloudbr3", 100, "10.1.1.1/8"), "is not in guest_cidr"),
        (("cloudbr3", 101, "10.1.1.200/25"), "overlaps 10.1.1.0/24 of bridge cloudbr3-102"),
    ],
)
def test_only_what_roots_file_permits_is_made(host: Host, link: tuple[str, int, str], why: str) -> None:
    failed = make_links(host, ("cloudbr3", 102, "10.1.1.1/24"), link)
    assert [why in text for text in failed.values()] == [True]
    # it does not keep others from theirs
    assert addresses_of(host, "cloudbr3-102") == ["10.1.1.1/24"]


def test_a_vlan_that_roots_file_no_longer_permits_is_refused(host: Host, host_file: Path) -> None:
    host_file.write_text(HOST_FILE.replace("100-102", "102"))
    assert "add it to vlans" in make_links(host, *BOTH)[RED]
    request = {"do": "make-tap", "name": "t0000000009-0", "bridge": RED, "isolated": False}
    assert "neither in host.yaml" in host.send_request(DAEMON_USER, **request)


def test_a_vlan_that_roots_file_no_longer_permits_keeps_its_rules_and_is_removed(
    host: Host, served: tuple[Machine, Machine], host_file: Path
) -> None:
    one, _ = served
    one.lease(ONE.mac)
    assert not one.connects("10.1.1.1", 2049)
    host_file.write_text(HOST_FILE.replace("100-102", "101-102"))
    host.drive("await driver.ensure()")
    assert not one.connects("10.1.1.1", 2049)
    assert not one.connects("10.13.0.1", 2049)
    assert RED in make_links(host, *BOTH)
    assert RED not in links_of(host)
    assert BLUE in links_of(host)


def test_the_tagged_port_of_a_vlan_that_is_no_longer_permitted_is_removed(
    host: Host, host_file: Path
) -> None:
    assert make_links(host, *BOTH) == {}
    # a port with the mark stands for the VLAN device, which not every kernel has
    sh("ip", "-n", host.name, "link", "add", "marked", "type", "veth", "peer", "unmarked")
    sh("ip", "-n", host.name, "link", "set", "marked", "master", RED, "group", str(GUEST_LINK_GROUP))
    host_file.write_text(HOST_FILE.replace("100-102", "101-102"))
    make_links(host)
    assert not {RED, BLUE, "marked"} & links_of(host).keys()


def test_a_guest_vlans_bridge_that_root_makes_a_network_of_the_host_stays(
    host: Host, host_file: Path
) -> None:
    assert make_links(host, *BOTH) == {}
    own = f"  {RED}: {{traffic_types: [guest]}}\n"
    host_file.write_text(HOST_FILE.replace("100-102", "101-102") + own)
    make_links(host)
    assert RED in links_of(host)
    assert BLUE not in links_of(host)


def test_rules_protect_a_link_that_is_there_when_the_daemon_starts(
    host: Host, served: tuple[Machine, Machine]
) -> None:
    one, _ = served
    one.lease(ONE.mac)
    host.drive("await driver.ensure()")  # replaces all rules
    assert one.connects("10.1.1.1", 80)
    assert not one.connects("10.1.1.1", 2049)


def test_a_helper_that_was_killed_in_the_middle_is_finished_by_the_next(host: Host) -> None:
    # what a kill between two steps leaves: a bridge without its address
    sh("ip", "-n", host.name, "link", "add", RED, "type", "bridge")
    assert make_links(host, *BOTH) == {}
    assert addresses_of(host, RED) == ["10.1.1.1/24"]
    sh("ip", "-n", host.name, "link", "add", "cloudbr3-102", "type", "bridge")
    make_links(host)
    assert not {RED, BLUE, "cloudbr3-102"} & links_of(host).keys()


def test_machines_of_one_network_reach_each_other_also_with_br_netfilter(
    host: Host, served: tuple[Machine, Machine], tmp_path: Path
) -> None:
    one, _ = served
    filtering = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    script = f"[ ! -e {filtering} ] || echo 1 > {filtering}"
    sh("ip", "netns", "exec", host.name, "sh", "-c", script)
    other = Machine(host, tmp_path, "t0000000003-0", bridge=RED, server="10.1.1.1")
    try:
        one.use(ONE.mac, "10.1.1.5")
        other.use("02:00:00:00:01:03", "10.1.1.6")
        other.listen(8080)
        assert one.connects("10.1.1.6", 8080)
    finally:
        other.close()
