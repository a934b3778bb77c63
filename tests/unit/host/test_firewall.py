# SPDX-License-Identifier: Apache-2.0
"""The text of the host's ruleset; integration tests check its effect on packets."""

from __future__ import annotations

import ipaddress

import pytest

from systemvm.host import firewall
from systemvm.host.bridges import HostNetwork

NETWORKS = [
    HostNetwork.of("cloud0", ["control"], "169.254.0.1/16"),
    HostNetwork.of("cloudbr1", ["management"], "10.11.0.1/24"),
    HostNetwork.of("cloudbr0", ["public", "guest"], "203.0.113.1/24", "2001:db8::1/64"),
]


def rules(text: str, chain: str) -> list[str]:
    body = text.split(f"chain {chain} {{")[1].split("}\n    ")[0]
    return [line.strip() for line in body.splitlines() if line.strip()]


def test_an_address_is_reached_only_through_its_own_bridge() -> None:
    lines = rules(firewall.ruleset(NETWORKS), "input")
    assert 'iifname != "cloud0" ip daddr 169.254.0.1 drop' in lines
    assert 'iifname != "cloudbr1" ip daddr 10.11.0.1 drop' in lines
    assert 'iifname != "cloudbr0" ip6 daddr 2001:db8::1 drop' in lines


def test_a_guest_cannot_use_addresses_of_its_host_or_another_network() -> None:
    lines = rules(firewall.ruleset(NETWORKS), "input")
    assert 'iifname "cloudbr0" ip saddr 203.0.113.1 drop' in lines
    assert 'iifname { "cloudbr1", "cloudbr0" } ip saddr 169.254.0.0/16 drop' in lines


def test_the_control_network_reaches_only_the_control_port() -> None:
    lines = [
        line for line in rules(firewall.ruleset(NETWORKS), "input") if line.startswith('iifname "cloud0"')
    ]
    assert 'iifname "cloud0" ip daddr 169.254.0.1 tcp dport 8250 accept' in lines
    other = rules(firewall.ruleset(NETWORKS, control_port=9250), "input")
    assert [line for line in other if "250 accept" in line] == [
        'iifname "cloud0" ip daddr 169.254.0.1 tcp dport 9250 accept'
    ]
    assert lines[-1] == 'iifname "cloud0" drop'


def test_vnc_is_dropped_before_established_traffic_is_accepted() -> None:
    lines = rules(firewall.ruleset(NETWORKS), "input")
    drop = next(i for i, line in enumerate(lines) if line.endswith("tcp dport 5900-6100 drop"))
    established = next(i for i, line in enumerate(lines) if "established" in line)
    assert drop < established


def test_nothing_is_forwarded_between_bridges() -> None:
    lines = rules(firewall.ruleset(NETWORKS), "forward")
    assert 'iifname "cloudbr1" oifname { "cloud0", "cloudbr0" } drop' in lines
    assert 'iifname "cloudbr0" oifname { "cloud0", "cloudbr1" } drop' in lines
    assert 'iifname != "cloud0" oifname "cloud0" drop' in lines


def test_consoles_are_replaced_and_sorted_by_family() -> None:
    text = firewall.admit_consoles([ipaddress.ip_address(a) for a in ("10.11.0.12", "fd00::5", "10.11.0.2")])
    assert text.splitlines() == [
        "flush set inet systemvm consoles4",
        "flush set inet systemvm consoles6",
        "add element inet systemvm consoles4 { 10.11.0.2, 10.11.0.12 }",
        "add element inet systemvm consoles6 { fd00::5 }",
    ]


def test_without_consoles_the_sets_are_empty() -> None:
    assert "add element" not in firewall.admit_consoles([])


def test_a_single_network_has_valid_rules() -> None:
    text = firewall.ruleset([HostNetwork.of("cloudbr0", ["public"], "203.0.113.1/24")])
    assert "{  }" not in text
    assert "chain forward" in text


@pytest.mark.parametrize("name", ["", "br0; flush ruleset", 'br"', "sixteen-letters-", "../../etc", "-br0"])
def test_a_malformed_bridge_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a bridge name"):
        HostNetwork.of(name, ["public"])


def test_links_that_only_carry_frames_reach_nothing_of_the_host() -> None:
    text = firewall.ruleset(NETWORKS)
    group = firewall.CARRIER_GROUP
    assert rules(text, "carried")[-1] == f"iifgroup {group} notrack"
    assert rules(text, "input")[2] == f"iifgroup {group} drop"
    assert f"iifgroup {group} oifgroup != {group} drop" in rules(text, "forward")
    assert f"iifgroup != {group} oifgroup {group} drop" in rules(text, "forward")


def test_a_guest_vlan_reaches_dhcp_dns_and_metadata_at_its_own_address_alone() -> None:
    links = [HostNetwork.of("cloudbr3-100", ["guest"], "10.1.1.1/24")]
    text = firewall.ruleset(NETWORKS, guest_links=links)
    assert 'add element inet systemvm guest_links { "cloudbr3-100" }' in text
    assert 'add element inet systemvm addresses_by_guest_link { "cloudbr3-100" . 10.1.1.1 }' in text
    own = rules(text, "guest_links")
    assert own[:3] == [
        "meta nfproto ipv6 drop",
        "ip daddr 255.255.255.255 udp dport 67 accept",
        "iifname . ip daddr != @addresses_by_guest_link drop",
    ]
    assert own[-1] == "drop"
    # before any rule that accepts
    assert rules(text, "input")[3:5] == [
        "iifname @guest_links jump guest_links",
        "ip daddr @guest_link_addresses drop",
    ]
    assert 'add element inet systemvm paths_in_guest_links { "cloudbr3-100" . "cloudbr3-100" }' in text
    assert rules(text, "forward")[3:6] == [
        "iifname . oifname @paths_in_guest_links accept",
        "iifname @guest_links drop",
        "oifname @guest_links drop",
    ]
    assert "add element inet systemvm guest_link" not in firewall.protect_guest_links([])
