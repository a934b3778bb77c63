# SPDX-License-Identifier: Apache-2.0
"""On each network of a booted appliance only the ports of appliance.yaml answer."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from testinfra.host import Host

from image.built_image import TOP
from systemvm.lab.plan import NETWORKS
from systemvm.service.slowness import scaled_s

if TYPE_CHECKING:
    from booted_cloud import BootedCloud

pytestmark = [pytest.mark.image, pytest.mark.cloud, pytest.mark.netns, pytest.mark.timeout(600)]

SCAN = Path(__file__).with_name("port_scan.py")
NICS = {"ssvm": ("eth0", "eth1", "eth2", "eth3"), "cpvm": ("eth0", "eth1", "eth2")}


def scan(cloud: BootedCloud, source: str, target: str, *expected: int) -> dict[str, dict[str, list[int]]]:
    """Scan from the address of the hypervisor host on the target's network; `expected` are TCP ports."""
    inside = ["ip", "netns", "exec", cloud.plan.host_namespace]
    done = subprocess.run(
        [*inside, sys.executable, SCAN, source, target, *map(str, expected)],
        capture_output=True,
        text=True,
        timeout=scaled_s(300.0),
        check=True,
    )
    found: dict[str, dict[str, list[int]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("role", "nic"), [(role, nic) for role, nics in NICS.items() for nic in nics], ids=str
)
def test_each_interface_answers_only_on_the_listed_ports(
    cloud: BootedCloud, role: str, nic: str, request: pytest.FixtureRequest
) -> None:
    guest: Host = request.getfixturevalue(f"{role}_ssh")
    shown = json.loads(guest.check_output("ip -json -4 address show dev %s", nic))
    target = shown[0]["addr_info"][0]["local"]
    source = next(str(net.host.ip) for net in NETWORKS if ip_address(target) in net.host.network)
    facts: dict[str, Any] = yaml.safe_load((TOP / "appliances" / role / "appliance.yaml").read_text())
    expected = {
        protocol: [
            rule["port"]
            for rule in facts["ports"]
            if (rule["interface"], rule["protocol"]) == (nic, protocol)
        ]
        for protocol in ("tcp", "udp")
    }
    found = scan(cloud, source, target, *expected["tcp"])
    assert found["tcp"] == {"open": sorted(expected["tcp"]), "reset": []}
    assert found["udp"] == {"answered": sorted(expected["udp"]), "refused": []}


def test_the_scan_finds_listening_ports(cloud: BootedCloud) -> None:
    """A scan of the download source finds its open ports: an empty result elsewhere is significant."""
    found = scan(cloud, "203.0.113.1", "203.0.113.10")
    assert {80, 443} & set(found["tcp"]["open"])
    assert len(found["tcp"]["reset"]) > 60000
