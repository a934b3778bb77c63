# SPDX-License-Identifier: Apache-2.0
"""The network driver in its own namespace, probed with real TCP from a neighbour on every bridge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from systemvm.host.layout import DAEMON_USER, NETWORK_USER, QEMU_USER, Layout
from systemvm.lab import children
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram, helper_sockets
from systemvm.management.samples import read_sample
from systemvm.service.unix_calls import RefusedError, call

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
import ipaddress, os, sys
from pathlib import Path
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from systemvm.management.network_helper import NetworkDriver

driver = NetworkDriver(Path({socket!r}))

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


def sh(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(argv[:6])}: {done.stdout}{done.stderr}"
    return done.stdout


class Host:
    """A host's namespace with its network helper, and one neighbour's namespace on every bridge."""

    def __init__(self, tag: str, layout: Layout) -> None:
        self.name = f"{tag}-host"
        self.layout = layout
        self.neighbours = {bridge: f"{tag}-{bridge}" for bridge in BRIDGES}

    def start_helper(self) -> ChildProcess:
        """Start the helper as its unit does: as its own user, with one capability and an inherited socket."""
        program = HostProgram.NETWORK_HELPER
        listener = helper_sockets(self.layout)[program]
        argv = program.argv(self.layout)
        return children.start(
            "helper", self.name, argv, self.layout.root / "helper.log", sockets={"helper": listener}
        )

    def run_as(self, user: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a Python script in the host's namespace, without any capability."""
        see = [argument for path in (self.layout.root, AGENTS) for argument in ("--see", str(path))]
        return subprocess.run(
            [
                *("ip", "netns", "exec", self.name, sys.executable, "-m", "systemvm.lab.drop_privileges"),
                *("--user", user, *see, "--", sys.executable, "-c", script),
            ],
            env={**os.environ, "PYTHONPATH": str(AGENTS)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def drive(self, work: str) -> str:
        """Run statements with a `driver`, as the daemon's user, and return their output."""
        work = textwrap.indent(textwrap.dedent(work), "    ")
        done = self.run_as(DAEMON_USER, DRIVE.format(socket=str(self.layout.network_socket), work=work))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send_request(self, user: str = DAEMON_USER, /, **request: object) -> str:
        """Send a request unchecked, as any user, and return the result or the error."""
        script = f"""
from pathlib import Path
from systemvm.service.unix_calls import call
try:
    print(call(Path({str(self.layout.network_socket)!r}), {request!r})[0])
except Exception as error:
    print(type(error).__name__, error)
"""
        return self.run_as(user, script).stdout

    def reached(self, bridge: str, targets: list[tuple[str, int, str | None]]) -> list[bool]:
        argv = ("ip", "netns", "exec", self.neighbours[bridge], sys.executable, "-c", PROBE)
        answer = sh(*argv, stdin=json.dumps(targets))
        result: list[bool] = json.loads(answer)
        return result


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    layout = Layout(tmp_path_factory.mktemp("host") / "root")
    layout.prepare()
    (layout.zones / "zone1.yaml").write_text(read_sample("zone.yaml"))
    host = Host(f"nt{os.getpid()}", layout)
    with ExitStack() as stack:
        for name in [host.name, *host.neighbours.values()]:
            sh("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        # a host that routes is the worst case: packets must not cross even then
        sh("ip", "netns", "exec", host.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        stack.callback(host.start_helper().stop)
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
            argv = ["ip", "netns", "exec", name, sys.executable, "-c", LISTEN.format(ports=PORTS)]
            listener = subprocess.Popen(argv, stdout=subprocess.PIPE)
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
        probe = ("ip", "netns", "exec", second, sys.executable, "-c", PROBE)
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


def links_of(host: Host) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(sh("ip", "-n", host.name, "-d", "-j", "link"))}


def test_a_tap_is_a_port_of_its_bridge_and_goes_with_its_descriptor(host: Host) -> None:
    output = host.drive(
        """
        import json, subprocess
        kept = [
            await driver.create_tap("tabcdef0123-0", "cloud0", isolated=True),
            await driver.create_tap("tabcdef0123-1", "cloudbr0", isolated=False),
        ]
        os.close(await driver.create_tap("tabcdef0123-2", "cloudbr0", isolated=False))
        await driver.ensure()  # the helper closes its descriptor of a call before it answers the next one
        print(subprocess.run(["ip", "-d", "-j", "link"], capture_output=True, text=True).stdout)
        """
    )
    links = {link["ifname"]: link for link in json.loads(output)}
    assert links["tabcdef0123-0"]["master"] == "cloud0"
    assert links["tabcdef0123-0"]["linkinfo"]["info_slave_data"]["isolated"] is True
    assert links["tabcdef0123-1"]["linkinfo"]["info_slave_data"]["isolated"] is False
    assert "UP" in links["tabcdef0123-1"]["flags"]
    assert "tabcdef0123-2" not in links
    assert not [name for name in links_of(host) if name.startswith("tabc")]


TWO_MACHINES = """
import ipaddress, select, struct

def frame(source, target, address):
    target_address = ipaddress.ip_address(address).packed
    # an ARP request for `address`; ten bytes of virtio header come first
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source + ipaddress.ip_address("169.254.5.5").packed
    return bytes(10) + target + source + b"\\x08\\x06" + arp + bytes(6) + target_address

one = await driver.create_tap("t0000000001-0", "cloud0", isolated=False)  # the helper isolates it anyway
two = await driver.create_tap("t0000000002-0", "cloud0", isolated=True)
mine, other = bytes.fromhex("0e00a9fe0505"), bytes.fromhex("0e00a9fe0606")
os.write(two, frame(other, b"\\xff" * 6, "169.254.0.1"))  # the bridge learns where `other` is
for target in (b"\\xff" * 6, other):
    os.write(one, frame(mine, target, "169.254.0.1"))

def received(tap):
    frames = []
    while select.select([tap], [], [], 1)[0]:
        frames.append(os.read(tap, 4096)[10:])
    return frames

answers = [frame for frame in received(one) if frame[12:14] == b"\\x08\\x06" and frame[20:22] == b"\\0\\2"]
strays = [frame for frame in received(two) if frame[6:12] == mine]
print(len(answers), len(strays))
"""


def test_two_system_vms_reach_the_host_and_not_each_other_by_frames_on_their_taps(host: Host) -> None:
    """Frames of one VM never reach the other's tap, even when the daemon does not request isolation."""
    answers, strays = map(int, host.drive(TWO_MACHINES).split())
    assert answers >= 1, "the host did not answer"
    assert strays == 0


def test_a_tap_on_a_bridge_that_no_file_names_is_refused(host: Host) -> None:
    sh("ip", "-n", host.name, "link", "add", "br-other", "type", "bridge")
    for bridge in ("cloudbr9", "br-other", "lo", "cloud0; reboot"):
        answer = host.send_request(do="make-tap", name="t0000000001-0", bridge=bridge, isolated=False)
        assert f"bridge {bridge} for tap" in answer
    sh("ip", "-n", host.name, "link", "del", "br-other")


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "remove-tap", "name": "v0"},
        {"do": "remove-tap", "name": "cloud0"},
        {"do": "remove-tap", "name": "lo"},
        {"do": "make-tap", "name": "eth0", "bridge": "cloud0", "isolated": True},
        {"do": "make-tap", "name": "t0000000001-0\n", "bridge": "cloud0", "isolated": True},
        {"do": "make-tap", "name": "../../t0000001-0", "bridge": "cloud0", "isolated": True},
        {"do": "make-tap", "bridge": "cloud0", "isolated": True},
        {"do": "admit-consoles", "addresses": ["10.11.0.9 } ; flush ruleset ; add element x y { 1"]},
        {"do": "admit-consoles", "addresses": ["fe80::1%x; flush ruleset"]},
        {"do": "ensure", "vnc_ports": [22, 6100], "control_port": 8250, "consoles": []},
        {"do": "ensure", "vnc_ports": ["5900 accept", 6100], "control_port": 8250, "consoles": []},
        {"do": "ensure", "vnc_ports": [5900, 6100], "control_port": 22, "consoles": []},
        {"do": "run", "argv": ["id"]},
        {},
    ],
)
def test_an_invalid_request_is_refused_and_changes_nothing(host: Host, request_: dict[str, object]) -> None:
    before = links_of(host).keys(), sh("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert host.send_request(**request_).startswith("RefusedError")
    assert (links_of(host).keys(), sh("ip", "netns", "exec", host.name, "nft", "list", "ruleset")) == before


def test_a_foreign_interface_with_a_taps_name_is_not_changed(host: Host) -> None:
    name = "t0000000009-0"
    sh("ip", "-n", host.name, "link", "add", name, "type", "bridge")
    for request in (
        {"do": "remove-tap", "name": name},
        {"do": "make-tap", "name": name, "bridge": "cloud0", "isolated": True},
    ):
        assert "is not a tap" in host.send_request(**request)
    assert name in links_of(host)
    sh("ip", "-n", host.name, "link", "del", name)


@pytest.mark.parametrize("user", ["daemon", NETWORK_USER, QEMU_USER])
def test_only_the_daemons_user_can_connect(host: Host, user: str) -> None:
    assert host.send_request(user, do="state").startswith("PermissionError")


def test_root_is_not_the_daemon(host: Host) -> None:
    """The socket's mode does not exclude root; the caller's uid, which the kernel reports, does."""
    with pytest.raises(RefusedError, match="the only one it serves"):
        call(host.layout.network_socket, {"do": "state"})
    assert "'ports'" in host.send_request(do="state")


def test_the_daemons_user_can_change_nothing_itself(host: Host) -> None:
    done = host.run_as(
        DAEMON_USER,
        "import subprocess; print(subprocess.run(['ip', 'link', 'del', 'cloud0'], stderr=subprocess.STDOUT))",
    )
    assert "Operation not permitted" in done.stdout
    assert "cloud0" in links_of(host)


def test_the_helper_has_one_capability_and_no_way_to_another(host: Host) -> None:
    found = {}
    for number in sh("ip", "netns", "pids", host.name).split():
        command = Path(f"/proc/{number}/cmdline").read_text()
        if "systemvm.nethelper" in command:
            found = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines()
            )
    net_admin = f"{1 << 12:016x}"
    assert [found[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [net_admin] * 4
    assert found["NoNewPrivs"] == "1"
    assert "0" not in found["Uid"].split()
