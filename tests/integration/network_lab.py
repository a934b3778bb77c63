# SPDX-License-Identifier: Apache-2.0
"""A host's network helper in a namespace, with a neighbour on every bridge that probes it with real TCP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from systemvm.host.layout import DAEMON_USER, Layout
from systemvm.lab import children
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram, as_user, helper_sockets
from systemvm.management.samples import read_sample
from systemvm.service.slowness import scaled_s

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
CONNECT_S = 1.5
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


DRIVE = """
import ipaddress, os, sys
from pathlib import Path
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from systemvm.host.guest_services import decode, decode_data
from systemvm.management.guest_networks.driver import GuestServicesDriver
from systemvm.management.network_helper import NetworkDriver

driver = NetworkDriver(Path({socket!r}))
services = GuestServicesDriver(Path({services!r}))

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


#: Its argument is how long a connection may take: `CONNECT_S`, scaled.
PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

connect_s = float(sys.argv[1])

def probe(target):
    host, port, source = target
    try:
        # the kernels connect, however busy the machine is; the byte needs a program
        with socket.create_connection((host, port), connect_s, (source, 0) if source else None) as connection:
            connection.settimeout(50)
            return connection.recv(1) == b"x"
    except OSError:
        return False

targets = json.load(sys.stdin)
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(probe, targets))))
"""


def sh(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{' '.join(argv[:6])}: {done.stdout}{done.stderr}"
    return done.stdout


class Host:
    """A host's namespace with its network helper, and one neighbour's namespace on every bridge."""

    def __init__(self, tag: str, layout: Layout) -> None:
        self.name = f"{tag}-host"
        self.layout = layout
        self.neighbours = {bridge: f"{tag}-{bridge}" for bridge in BRIDGES}
        self._sockets = helper_sockets(layout)

    def prepared(self) -> AbstractContextManager[object]:
        """Start what the helper needs beside it."""
        return nullcontext()

    def connect(self, port: str, bridge: str) -> None:
        """Put an interface of the host into a bridge."""
        sh("ip", "-n", self.name, "link", "set", port, "master", bridge, "up")

    def start_helper(self, program: HostProgram = HostProgram.NETWORK_HELPER) -> ChildProcess:
        """Start a helper as its unit does: as its own user, with few capabilities and an inherited socket."""
        return children.start(
            program.module,
            self.name,
            program.argv(self.layout),
            self.layout.root / f"{program.module}.log",
            sockets={"helper": self._sockets[program]},
        )

    def run_as(self, user: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a Python script in the host's namespace, without any capability."""
        return subprocess.run(
            [
                *("ip", "netns", "exec", self.name),
                *(*as_user(user, [self.layout.root]), sys.executable, "-c", script),
            ],
            env={**os.environ, "PYTHONPATH": str(AGENTS)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def drive(self, work: str) -> str:
        """Run statements with a `driver` and `services`, as the daemon's user, and return their output."""
        work = textwrap.indent(textwrap.dedent(work), "    ")
        script = DRIVE.format(
            socket=str(self.layout.network_socket),
            services=str(self.layout.guest_services_socket),
            work=work,
        )
        done = self.run_as(DAEMON_USER, script)
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
        argv = (
            "ip",
            "netns",
            "exec",
            self.neighbours[bridge],
            sys.executable,
            "-c",
            PROBE,
            str(scaled_s(CONNECT_S)),
        )
        answer = sh(*argv, stdin=json.dumps(targets))
        result: list[bool] = json.loads(answer)
        return result


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    layout = prepare_layout(tmp_path_factory.mktemp("host"))
    with running_host(Host(f"nt{os.getpid()}", layout)) as host:
        yield host


def prepare_layout(directory: Path) -> Layout:
    layout = Layout(directory / "root")
    layout.prepare()
    (layout.zones / "zone1.yaml").write_text(read_sample("zone.yaml"))
    return layout


@contextmanager
def running_host(host: Host) -> Iterator[Host]:
    with ExitStack() as stack:
        for name in [host.name, *host.neighbours.values()]:
            sh("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        # a host that routes is the worst case: packets must not cross even then
        sh("ip", "netns", "exec", host.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        stack.enter_context(host.prepared())
        stack.callback(host.start_helper().stop)
        host.drive("await driver.ensure()\nawait driver.ensure()")
        for index, (bridge, (_, gateway, address)) in enumerate(BRIDGES.items()):
            neighbour, port = host.neighbours[bridge], f"v{index}"
            peer = ("peer", "eth0", "netns", neighbour)
            sh("ip", "-n", host.name, "link", "add", port, "type", "veth", *peer)
            host.connect(port, bridge)
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


def links_of(host: Host) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(sh("ip", "-n", host.name, "-d", "-j", "link"))}
