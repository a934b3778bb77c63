# SPDX-License-Identifier: Apache-2.0
"""Which guest VLANs root's file permits, and with which addresses."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from systemvm.host.bridges import HostNetwork
from systemvm.host.config_file import ConfigError
from systemvm.host.guest_vlans import guest_vlan_networks, tagged_uplink, vlan_bridge, with_address
from systemvm.host.host_file import FILE_NAME, load_host

FILE = """
labels:
  cloud0: {traffic_types: [control], addresses: [169.254.0.1/16]}
  cloudbr0: {traffic_types: [public], vlans: [100]}
  cloudbr3:
    traffic_types: [guest]
    addresses: [10.13.0.1/24]
    uplink: eth3
    vlans: [100, 200-201]
    guest_cidr: 10.1.0.0/16
    vlan_addresses: {200: [10.20.0.2/24]}
"""


def networks(etc: Path, text: str = FILE) -> dict[str, HostNetwork]:
    (etc / FILE_NAME).write_text(text)
    return load_host(etc).networks()


def test_guest_vlans_are_those_of_labels_with_guest_traffic(tmp_path: Path) -> None:
    found = guest_vlan_networks(networks(tmp_path).values())
    assert found.keys() == {"cloudbr3-100", "cloudbr3-200", "cloudbr3-201"}
    assert (found["cloudbr3-100"].tag, found["cloudbr3-100"].uplink) == (100, "eth3")
    assert found["cloudbr3-200"].addresses == (IPv4Interface("10.20.0.2/24"),)
    assert found["cloudbr3-200"].guest_cidr is None


def test_a_bridge_that_only_has_guest_vlans_needs_no_filtering(tmp_path: Path) -> None:
    found = networks(tmp_path)
    assert found["cloudbr3"].filtered_vlans == frozenset()
    assert found["cloudbr0"].filtered_vlans == {100}


@pytest.mark.parametrize(
    ("name", "address"),
    [("cloudbr3-100", "10.2.0.1/24"), ("cloudbr3-100", "10.1.0.1/15"), ("cloudbr3-200", "10.1.0.1/24")],
)
def test_a_request_gets_addresses_of_guest_cidr_alone(tmp_path: Path, name: str, address: str) -> None:
    found = guest_vlan_networks(networks(tmp_path).values())
    assert with_address(found["cloudbr3-100"], IPv4Interface("10.1.7.1/24")).addresses == (
        IPv4Interface("10.1.7.1/24"),
    )
    with pytest.raises(ValueError, match="is not in guest_cidr"):
        with_address(found[name], IPv4Interface(address))


def test_a_bridge_of_the_file_is_not_that_of_a_vlan(tmp_path: Path) -> None:
    text = FILE + "  cloudbr3-100: {traffic_types: [storage]}\n"
    assert guest_vlan_networks(networks(tmp_path, text).values()).keys() == {"cloudbr3-200", "cloudbr3-201"}


def test_names_fit_and_differ() -> None:
    names = {vlan_bridge(f"a-long-bridge-{n}", vlan) for n in (1, 2) for vlan in (2, 4094)}
    names |= {tagged_uplink(f"enp3s0f{n}", vlan) for n in (1, 2) for vlan in (2, 4094)}
    assert len(names) == 8
    assert max(map(len, names)) <= 15


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("guest_cidr: 10.1.0.0/16", "guest_cidr: 10.0.0.0/8", "overlaps 10.13.0.0/24 of cloudbr3"),
        ("guest_cidr: 10.1.0.0/16", "guest_cidr: 169.254.0.0/16", "overlaps 169.254.0.0/16 of cloud0"),
        ("vlan_addresses: {200:", "vlan_addresses: {300:", "300 is not one of vlans"),
        ("[10.20.0.2/24]", "[nonsense]", "nonsense"),
        ("uplink: eth3", "kind: openvswitch", "only a label of kind linux"),
        ("traffic_types: [guest]", "traffic_types: [storage]", "only a label with guest traffic"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, before: str, after: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        networks(tmp_path, FILE.replace(before, after))
