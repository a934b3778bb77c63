# SPDX-License-Identifier: Apache-2.0
"""The network driver in a namespace of its own, probed with real TCP from a neighbour on every bridge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

AGENTS = Path(__file__).resolve().parents[2] / "agents"

#: bridge: (traffic type, the host's address, a neighbour's address)
BRIDGES = {
    "cloud0": ("control", "169.254.0.1/16", "169.254.3.7/16"),
    "cloudbr1": ("management", "10.11.0.1/24", "10.11.0.100/24"),
    "cloudbr0": ("public", "203.0.113.1/24", "203.0.113.100/24"),
    "cloudbr2": ("storage", "10.12.0.1/24", "10.12.0.100/24"),
    "cloudbr3": ("guest", "10.13.0.1/24", "10.13.0.100/24"),
}
PORTS = (8250, 5907, 2049)

DRIVE = """
import ipaddress, sys
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from systemvm.management.networks.bridges import HostNetwork
from systemvm.management.networks.driver import NetworkDriver

networks = {networks!r}
driver = NetworkDriver([HostNetwork.of(bridge, [kind], host) for bridge, (kind, host, _) in networks.items()])

async def work():
{work}

failures = []
def start():
    d = Deferred.fromCoroutine(work())
    d.addErrback(lambda f: failures.append(f.getTraceback()))
    d.addBoth(lambda _: reactor.stop())
reactor.callWhenRunning(start)
reactor.run()
sys.exit("".join(failures) or 0)
"""

LISTEN = """
import socket, select, sys
listeners = [socket.create_server(("0.0.0.0", port)) for port in {ports}]
print("ready", flush=True)
while True:
    for listener in select.select(listeners, [], [])[0]:
        connection, _ = listener.accept()
        connection.sendall(b"x")
        connection.close()
"""

PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def probe(target):
    host, port, source = target
    try:
        with socket.create_connection((host, port), 1.5, (source, 0) if source else None) as connection:
            return connection.recv(1) == b"x"
    except OSError:
        return False

targets = json.load(sys.stdin)
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(probe, targets))))
"""


def sh(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(words[:6])}: {done.stdout}{done.stderr}"
    return done.stdout


class Host:
    """A host's namespace and one neighbour's namespace on every bridge."""

    def __init__(self, tag: str) -> None:
        self.name = f"{tag}-host"
        self.neighbours = {bridge: f"{tag}-{bridge}" for bridge in BRIDGES}

    def drive(self, work: str) -> None:
        script = DRIVE.format(networks=BRIDGES, work=textwrap.indent(textwrap.dedent(work), "    "))
        sh("ip", "netns", "exec", self.name, "env", f"PYTHONPATH={AGENTS}", sys.executable, "-c", script)

    def reached(self, bridge: str, targets: list[tuple[str, int, str | None]]) -> list[bool]:
        words = ("ip", "netns", "exec", self.neighbours[bridge], sys.executable, "-c", PROBE)
        answer = sh(*words, stdin=json.dumps(targets))
        result: list[bool] = json.loads(answer)
        return result


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host(f"nt{os.getpid()}")
    with ExitStack() as stack:
        for name in [host.name, *host.neighbours.values()]:
            sh("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        # a host that routes is the worst case: nothing may cross even then
        sh("ip", "netns", "exec", host.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        host.drive("await driver.ensure()\nawait driver.ensure()")
        for index, (bridge, (_, gateway, address)) in enumerate(BRIDGES.items()):
            neighbour = host.neighbours[bridge]
            sh(
                "ip",
                "-n",
                host.name,
                "link",
                "add",
                f"v{index}",
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                neighbour,
            )
            sh("ip", "-n", host.name, "link", "set", f"v{index}", "master", bridge, "up")
            sh("ip", "-n", neighbour, "addr", "add", address, "dev", "eth0")
            sh("ip", "-n", neighbour, "link", "set", "eth0", "up")
            sh("ip", "-n", neighbour, "route", "add", "default", "via", gateway.split("/")[0])
        listeners = []
        for name in [host.name, *host.neighbours.values()]:
            words = ["ip", "netns", "exec", name, sys.executable, "-c", LISTEN.format(ports=PORTS)]
            listener = subprocess.Popen(words, stdout=subprocess.PIPE)
            stack.callback(listener.wait)
            stack.callback(listener.kill)
            listeners.append(listener)
        for listener in listeners:
            assert listener.stdout and listener.stdout.readline() == b"ready\n"
        yield host


def ip(text: str) -> str:
    return text.split("/")[0]


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


def test_vnc_is_open_for_an_admitted_console_proxy_alone(host: Host) -> None:
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
    """Taps of system VMs are isolated ports; here veths, isolated in the same way, stand for two of them."""
    second = f"{host.name}-2nd"
    sh("ip", "netns", "add", second)
    try:
        sh("ip", "-n", host.name, "link", "add", "v2nd", "type", "veth", "peer", "eth0", "netns", second)
        sh("ip", "-n", host.name, "link", "set", "v2nd", "master", "cloud0", "up")
        sh("ip", "-n", second, "addr", "add", "169.254.9.9/16", "dev", "eth0")
        sh("ip", "-n", second, "link", "set", "eth0", "up")
        targets = json.dumps([("169.254.3.7", 2049, None), ("169.254.0.1", 8250, None)])
        probe = ("ip", "netns", "exec", second, sys.executable, "-c", PROBE)
        assert json.loads(sh(*probe, stdin=targets)) == [True, True]
        for port in ("v0", "v2nd"):
            sh("bridge", "-n", host.name, "link", "set", "dev", port, "isolated", "on")
        assert json.loads(sh(*probe, stdin=targets)) == [False, True]
    finally:
        sh("bridge", "-n", host.name, "link", "set", "dev", "v0", "isolated", "off")
        sh("ip", "netns", "del", second)


def test_a_tap_is_a_port_of_its_bridge_isolated_when_asked_and_can_be_made_again(host: Host) -> None:
    host.drive(
        """
        for _ in range(2):
            await driver.create_tap("tcontrol-0", "cloud0", isolated=True)
            await driver.create_tap("tpublic-0", "cloudbr0", isolated=False)
        """
    )
    links = {link["ifname"]: link for link in json.loads(sh("ip", "-n", host.name, "-d", "-j", "link"))}
    assert links["tcontrol-0"]["master"] == "cloud0"
    assert links["tcontrol-0"]["linkinfo"]["info_slave_data"]["isolated"] is True
    assert links["tpublic-0"]["linkinfo"]["info_slave_data"]["isolated"] is False
    assert "UP" in links["tpublic-0"]["flags"]
    host.drive("for name in ('tcontrol-0', 'tpublic-0', 'not-there'):\n    await driver.remove_tap(name)")
    assert "tcontrol-0" not in sh("ip", "-n", host.name, "link")


def test_a_tap_on_a_bridge_that_is_not_there_names_it(host: Host) -> None:
    with pytest.raises(AssertionError, match="there is no bridge cloudbr9 for tap t-0"):
        host.drive("await driver.create_tap('t-0', 'cloudbr9', isolated=False)")


def test_removal_leaves_nothing(host: Host) -> None:
    """Last of this module: it takes the bridges away."""
    host.drive("await driver.remove()\nawait driver.remove()")
    assert "systemvm" not in sh("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert json.loads(sh("ip", "-n", host.name, "-j", "link", "show", "type", "bridge")) == []
