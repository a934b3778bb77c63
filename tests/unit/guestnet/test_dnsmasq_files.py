# SPDX-License-Identifier: Apache-2.0
"""The text of dnsmasq's files, and what the daemon cannot put into them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from systemvm.guestnet.dnsmasq_files import DnsmasqFiles, files_of
from systemvm.host.guest_services import Guest, GuestBridge, GuestSubnet, decode, encode

NETWORK, SECOND = IPv4Network("10.13.0.0/24"), IPv4Network("10.14.0.0/24")
OWN = {NETWORK: IPv4Address("10.13.0.1")}
WEB = Guest("02:00:00:00:00:01", IPv4Address("10.13.0.50"), "web", is_here=True)


def files(*guests: Guest, gateway: str | None = "10.13.0.254") -> DnsmasqFiles:
    router = None if gateway is None else IPv4Address(gateway)
    subnets = (
        GuestSubnet(NETWORK, router, "zone1.test", guests),
        GuestSubnet(SECOND, None, "zone1.test"),
    )
    bridge = GuestBridge("cloudbr3", subnets, (IPv4Address("203.0.113.10"),))
    return files_of(bridge, OWN, Path("/run/x"))


def test_each_machine_has_a_line_with_its_address() -> None:
    assert files(WEB).dhcp_hosts == "02:00:00:00:00:01,10.13.0.50,web,24h\n"


def test_a_machine_of_another_host_has_a_name_and_no_lease() -> None:
    found = files(Guest(WEB.mac, WEB.address, "far", is_here=False))
    assert found.dhcp_hosts == ""
    assert "10.13.0.50 far.zone1.test far\n" in found.names


def test_only_known_machines_are_answered_on_the_bridge_alone() -> None:
    lines = files(WEB).configuration.splitlines()
    for line in ("interface=cloudbr3", "except-interface=lo", "bind-interfaces", "dhcp-ignore=tag:!known"):
        assert line in lines
    assert "dhcp-range=set:subnet0,10.13.0.0,static,255.255.255.0,24h" in lines
    assert "server=203.0.113.10" in lines


def test_a_subnet_without_an_address_of_this_host_is_left_out() -> None:
    assert "10.14.0" not in files(WEB).configuration


def test_a_network_without_a_router_does_not_name_the_host_as_one() -> None:
    assert "dhcp-option=tag:subnet0,tag:!no-router,option:router\n" in files(gateway=None).configuration
    assert "dhcp-option=tag:subnet0,tag:!no-router,option:router,10.13.0.254\n" in files().configuration


def test_a_machine_has_a_route_to_the_metadata_service_past_its_router() -> None:
    start = "dhcp-option=tag:subnet0,tag:!no-router"
    route = "169.254.169.254/32,10.13.0.1"
    for option in ("option:classless-static-route", "249"):
        # with the default route: a machine that takes these routes ignores its router
        assert f"{start},{option},{route},0.0.0.0/0,10.13.0.254\n" in files().configuration
        assert f"{start},{option},{route}\n" in files(gateway=None).configuration


def test_a_second_nic_has_no_router() -> None:
    second = Guest(WEB.mac, WEB.address, "web", is_here=True, has_router=False)
    assert files(second).dhcp_hosts == "02:00:00:00:00:01,set:no-router,10.13.0.50,web,24h\n"
    assert "dhcp-option=tag:no-router,option:router\n" in files(second).configuration


def test_the_oldest_machine_has_a_name_that_two_have() -> None:
    late = Guest("02:00:00:00:00:02", IPv4Address("10.13.0.60"), "WEB", is_here=True)
    names = files(WEB, late).names
    assert "10.13.0.50 web.zone1.test web\n" in names
    assert "10.13.0.60" not in names


def test_no_machine_has_the_name_of_the_metadata_service() -> None:
    thief = Guest(WEB.mac, WEB.address, "data-server", is_here=True)
    assert files(thief).names.splitlines() == ["10.13.0.1 data-server.zone1.test data-server"]
    # nor does a name server of the zone, where this host has no address
    assert "local=/data-server.zone1.test/" in files(thief).configuration.splitlines()


@pytest.mark.parametrize("name", ["ignore", "infinite", "24h", "7"])
def test_a_name_that_is_a_word_of_dnsmasq_is_not_in_a_line_for_dhcp(name: str) -> None:
    found = files(Guest(WEB.mac, WEB.address, name, is_here=True))
    assert found.dhcp_hosts == "02:00:00:00:00:01,10.13.0.50,24h\n"
    assert f"10.13.0.50 {name}.zone1.test {name}\n" in found.names


@pytest.mark.parametrize(
    "change",
    [
        (b'"web"', b'"web,10.0.0.9"'),
        (b'"web"', b'"web\\n02:00:00:00:00:09"'),
        (b'"zone1.test"', b'"zone1.test\\nenable-tftp"'),
        (b'"zone1.test"', b'""'),
        (b"02:00:00:00:00:01", b"ignore"),
        (b"10.13.0.50", b"10.15.0.50"),
        (b"10.13.0.0/24", b"10.13.0.1/24"),
    ],
)
def test_a_value_of_another_form_is_refused(change: tuple[bytes, bytes]) -> None:
    good = encode([GuestBridge("b", (GuestSubnet(NETWORK, None, "zone1.test", (WEB,)),))])
    assert decode(good)[0].subnets[0].guests == (WEB,)
    assert change[0] in good
    with pytest.raises(ValueError, match=r"\w"):
        decode(good.replace(*change))
