# SPDX-License-Identifier: Apache-2.0
"""A namespace in the place of a user's machine, and the services of guest networks that it asks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.network_lab import LISTEN, Host, sh
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram

BRIDGE = "cloudbr3"
SEND = """
import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("eth0", 0))
for frame in sys.argv[1:]:
    sender.send(bytes.fromhex(frame))
"""
SCRIPT = '#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n'


@pytest.fixture
def services(host: Host) -> Iterator[ChildProcess]:
    helper = host.start_helper(HostProgram.GUEST_SERVICES)
    yield helper
    helper.stop()
    for pid in [*dnsmasq_of(host), *processes_of(host, "--metadata")]:  # they outlive it
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Machine:
    """A namespace with one port of the guest bridge, in the place of a virtual machine."""

    def __init__(
        self, host: Host, directory: Path, port: str, bridge: str = BRIDGE, server: str = "10.13.0.1"
    ) -> None:
        self.name = f"{host.name}-{port}"
        self._listeners: list[subprocess.Popen[bytes]] = []
        self._server = server  # the host's address on the bridge
        self._script = directory / "script"
        self._script.write_text(SCRIPT)
        self._script.chmod(0o755)
        sh("ip", "netns", "add", self.name)
        sh("ip", "-n", host.name, "link", "add", port, "type", "veth", "peer", "eth0", "netns", self.name)
        sh("ip", "-n", host.name, "link", "set", port, "master", bridge, "up")
        sh("ip", "-n", self.name, "link", "set", "lo", "up")

    def lease(self, mac: str, *, tries: int = 10) -> dict[str, str]:
        """Ask for a lease with this MAC, and use it; return it by the names of udhcpc's variables."""
        sh("ip", "-n", self.name, "addr", "flush", "dev", "eth0")
        sh("ip", "-n", self.name, "link", "set", "eth0", "address", mac, "up")
        done = subprocess.run(
            [
                *("ip", "netns", "exec", self.name, "busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n"),
                *("-t", str(tries), "-T", "2", "-s", str(self._script)),
                *("-O", "hostname", "-O", "domain", "-O", "staticroutes"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        if "ip" in found:
            sh("ip", "-n", self.name, "addr", "add", f"{found['ip']}/{found['mask']}", "dev", "eth0")
        return found

    def ask(self, name: str) -> list[str]:
        """Return the addresses of a name, from the host's name server."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "busybox", "nslookup", name, self._server],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        _, _, answer = done.stdout.partition("\n\n")
        return [line.split()[-1] for line in answer.splitlines() if line.startswith("Address")]

    def password(self, asked: str, *options: str) -> tuple[int, str]:
        """Return status and body of a request to the password server."""
        return self.get("/", *options, "-H", f"DomU_Request: {asked}", address=f"{self._server}:8080")

    def mac(self) -> str:
        return sh("ip", "netns", "exec", self.name, "cat", "/sys/class/net/eth0/address").strip()

    def listen(self, port: int) -> None:
        """Accept connections until the namespace is deleted."""
        server = ("ip", "netns", "exec", self.name, sys.executable, "-c", LISTEN.format(ports=(port,)))
        listener = subprocess.Popen(server, stdout=subprocess.PIPE)
        self._listeners.append(listener)
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"ready\n"

    def connects(self, address: str, port: int) -> bool:
        """Return whether a TCP connection to an address is made."""
        script = f"import socket; socket.create_connection(({address!r}, {port}), 3).close()"
        argv = ("ip", "netns", "exec", self.name, sys.executable, "-c", script)
        return subprocess.run(argv, capture_output=True, check=False, timeout=100).returncode == 0

    def close(self) -> None:
        for listener in self._listeners:
            listener.kill()
            listener.wait()
        sh("ip", "netns", "del", self.name)

    def use(self, mac: str, address: str) -> None:
        """Use a MAC and an address without asking."""
        sh("ip", "-n", self.name, "addr", "flush", "dev", "eth0")
        sh("ip", "-n", self.name, "link", "set", "eth0", "address", mac, "up")
        sh("ip", "-n", self.name, "addr", "add", f"{address}/24", "dev", "eth0")

    def send(self, *frames: str) -> None:
        """Send frames, each from its destination to its payload, in hexadecimal."""
        sh("ip", "netns", "exec", self.name, sys.executable, "-c", SEND, *frames)

    def get(self, path: str, *options: str, address: str | None = None) -> tuple[int, str]:
        """Return status and body of a request to the metadata service."""
        done = subprocess.run(
            [
                *("ip", "netns", "exec", self.name, "curl", "-s", "-m", "60", "--retry", "0", *options),
                *("-w", "\\n%{http_code}", f"http://{address or self._server}{path}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        if done.returncode != 0:
            return 0, ""  # no answer
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


def dnsmasq_of(host: Host) -> dict[int, dict[str, str]]:
    """Return the status of each dnsmasq of the host by its process id."""
    return processes_of(host, "dnsmasq")


def processes_of(host: Host, argument: str) -> dict[int, dict[str, str]]:
    """Return the status of each process of the host with this argument by its process id."""
    found = {}
    for number in sh("ip", "netns", "pids", host.name).split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            process = Path("/proc") / number
            if argument in (process / "cmdline").read_text().split("\0"):
                lines = (process / "status").read_text().splitlines()
                found[int(number)] = dict(line.split(":\t", 1) for line in lines)
    return found
