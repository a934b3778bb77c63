# SPDX-License-Identifier: Apache-2.0
"""The cloud's own networks are the addresses of its hosts, system VMs, listeners and origins."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from systemvm.host.layout import Layout
from systemvm.management import config
from systemvm.management.own_networks import own_networks
from systemvm.management.samples import read_sample

PUBLIC = "    cidr: 203.0.113.0/24\n"


def networks(root: Path, zone: str, management: str = "{}") -> list[str]:
    layout = Layout(root)
    layout.make()
    (layout.zones / "zone1.yaml").write_text(zone)
    layout.config_file.write_text(management)
    return own_networks(config.read(layout))


def holds(found: list[str], address: str) -> bool:
    wanted = ip_address(address)
    return any(wanted in network for network in map(ip_network, found) if network.version == wanted.version)


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("203.0.113.1", True),  # the hypervisor
        ("203.0.113.100", True),  # first and last address of the system VMs' pool
        ("203.0.113.199", True),
        ("203.0.113.10", False),  # an image server in the same network
        ("203.0.113.99", False),
        ("203.0.113.200", False),
        ("198.51.100.7", False),
    ],
)
def test_addresses_of_hosts_and_system_vms_are_own(tmp_path: Path, address: str, own: bool) -> None:
    assert holds(networks(tmp_path, read_sample("zone.yaml")), address) is own


def test_ipv6_addresses_of_hosts_and_system_vms_are_own(tmp_path: Path) -> None:
    zone = read_sample("zone.yaml")
    assert PUBLIC in zone
    found = networks(tmp_path, zone.replace(PUBLIC, PUBLIC + "    cidr6: 2001:db8:7::/64\n"))
    assert holds(found, "2001:db8:7::cb00:7101")
    assert holds(found, "2001:db8:7::cb00:7164")
    assert not holds(found, "2001:db8:7::cb00:710a")


def test_listeners_and_origins_of_the_daemon_are_own(tmp_path: Path) -> None:
    management = "page: {origin: 'https://198.51.100.5'}\n"
    management += "control: {extra_listeners: ['198.51.100.6', '[2001:db8::6]']}\n"
    zone = read_sample("zone.yaml").replace("https://127.0.0.1:8443", "https://198.51.100.4:8443")
    found = networks(tmp_path, zone, management)
    for address in ("198.51.100.4", "198.51.100.5", "198.51.100.6", "2001:db8::6"):
        assert holds(found, address), address
    assert not holds(found, "198.51.100.7")


def test_each_own_network_is_listed_once(tmp_path: Path) -> None:
    found = networks(tmp_path, read_sample("zone.yaml"))
    assert len(found) == len(set(found)) < 20
