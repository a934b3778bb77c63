# SPDX-License-Identifier: Apache-2.0
"""The firewall of a host with bridges, probed with real TCP from a neighbour on every bridge."""

from __future__ import annotations

import json
import re
import sys

import pytest

from integration.network_lab import BRIDGES, CONNECT_S, PORTS, PROBE, Host, host, ip, sh
from systemvm.host.layout import DAEMON_USER
from systemvm.service.slowness import scaled_s

__all__ = ["host"]  # the fixture

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


@pytest.mark.parametrize("bridge", BRIDGES)
def test_each_bridge_reaches_its_own_address_and_no_other(host: Host, bridge: str) -> None:
    targets: list[tuple[str, int, str | None]] = [
        (ip(address), port, None) for _, address, _ in BRIDGES.values() for port in PORTS
    ]
    expected = [
        name == bridge and (port == 8250 if bridge == "cloud0" else port != 5907)
        for name in BRIDGES
        for port in PORTS
    ]
    reached = host.reached(bridge, targets)
    assert dict(zip(map(str, targets), reached, strict=True)) == dict(
        zip(map(str, targets), expected, strict=True)
    )


@pytest.mark.parametrize("bridge", BRIDGES)
def test_nothing_is_forwarded_between_bridges_even_when_the_host_routes(host: Host, bridge: str) -> None:
    others: list[tuple[str, int, str | None]] = [
        (ip(address), 2049, None) for name, (_, _, address) in BRIDGES.items() if name != bridge
    ]
    assert host.reached(bridge, others) == [False] * len(others)


def test_vnc_is_open_only_for_an_admitted_console_proxy(host: Host) -> None:
    proxy = ip(BRIDGES["cloudbr1"][2])
    target: list[tuple[str, int, str | None]] = [("10.11.0.1", 5907, None)]
    sh("ip", "-n", host.neighbours["cloudbr1"], "addr", "add", "10.11.0.66/24", "dev", "eth0")
    beside: list[tuple[str, int, str | None]] = [("10.11.0.1", 5907, "10.11.0.66")]
    assert host.reached("cloudbr1", target) == [False]
    host.drive(f"await driver.admit_consoles([ipaddress.ip_address({proxy!r})])")
    assert host.reached("cloudbr1", target) == [True]
    assert host.reached("cloudbr1", beside) == [False], "another machine of the management network got in"
    # the same address, forged from the public network
    forger = host.neighbours["cloudbr0"]
    sh("ip", "-n", forger, "addr", "add", f"{proxy}/32", "dev", "lo")
    forged: list[tuple[str, int, str | None]] = [("10.11.0.1", 5907, proxy)]
    assert host.reached("cloudbr0", forged) == [False]
    sh("ip", "-n", forger, "addr", "del", f"{proxy}/32", "dev", "lo")
    host.drive(
        "await driver.admit_consoles([ipaddress.ip_address('10.11.0.99')])\nawait driver.admit_consoles([])"
    )
    assert host.reached("cloudbr1", target) == [False]


def test_two_control_ports_cannot_reach_each_other_but_the_host(host: Host) -> None:
    """Veths that are isolated in the same way stand for two taps of system VMs."""
    second = f"{host.name}-2nd"
    sh("ip", "netns", "add", second)
    try:
        sh("ip", "-n", host.name, "link", "add", "v2nd", "type", "veth", "peer", "eth0", "netns", second)
        sh("ip", "-n", host.name, "link", "set", "v2nd", "master", "cloud0", "up")
        sh("ip", "-n", second, "addr", "add", "169.254.9.9/16", "dev", "eth0")
        sh("ip", "-n", second, "link", "set", "eth0", "up")
        targets = json.dumps([("169.254.3.7", 2049, None), ("169.254.0.1", 8250, None)])
        probe = ("ip", "netns", "exec", second, sys.executable, "-c", PROBE, str(scaled_s(CONNECT_S)))
        assert json.loads(sh(*probe, stdin=targets)) == [True, True]
        for port in ("v0", "v2nd"):
            sh("bridge", "-n", host.name, "link", "set", "dev", port, "isolated", "on")
        assert json.loads(sh(*probe, stdin=targets)) == [False, True]
    finally:
        sh("bridge", "-n", host.name, "link", "set", "dev", "v0", "isolated", "off")
        sh("ip", "netns", "del", second)


def test_a_guest_is_one_source_whatever_address_and_mac_it_takes(host: Host) -> None:
    neighbour = host.neighbours["cloud0"]
    script = """
from systemvm.management.control.bridge_port import BridgePortSource
print(BridgePortSource({"cloud0"})("%s"))
"""
    sources = []
    for mac, address in (("0e:00:a9:fe:03:07", "169.254.3.7"), ("0e:00:a9:fe:03:08", "169.254.3.8")):
        sh("ip", "-n", neighbour, "link", "set", "eth0", "address", mac)
        sh("ip", "-n", neighbour, "addr", "replace", f"{address}/16", "dev", "eth0")
        assert host.reached("cloud0", [("169.254.0.1", 8250, address)]) == [True]
        sources.append(host.run_as(DAEMON_USER, script % address).stdout.strip())
    sh("ip", "-n", neighbour, "addr", "del", "169.254.3.8/16", "dev", "eth0")
    assert re.fullmatch(r"cloud0 port \d+", sources[0]), sources
    assert sources[0] == sources[1]
    assert host.run_as(DAEMON_USER, script % "10.11.0.100").stdout.strip() == "10.11.0.100"
