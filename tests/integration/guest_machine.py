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

from integration.guest_client import GuestClient
from integration.network_lab import LISTEN, Host, sh
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import HostProgram
from systemvm.service.slowness import scaled_s

BRIDGE = "cloudbr3"


@pytest.fixture
def services(host: Host) -> Iterator[ChildProcess]:
    helper = host.start_helper(HostProgram.GUEST_SERVICES)
    yield helper
    helper.stop()
    for pid in [*dnsmasq_of(host), *processes_of(host, "--metadata")]:  # they outlive it
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Machine(GuestClient):
    """A namespace with one port of the guest bridge, in the place of a virtual machine."""

    def __init__(
        self, host: Host, directory: Path, port: str, bridge: str = BRIDGE, server: str = "10.13.0.1"
    ) -> None:
        super().__init__(f"{host.name}-{port}", directory, server=server)
        self._listeners: list[subprocess.Popen[bytes]] = []
        sh("ip", "netns", "add", self.name)
        sh("ip", "-n", host.name, "link", "add", port, "type", "veth", "peer", "eth0", "netns", self.name)
        sh("ip", "-n", host.name, "link", "set", port, "master", bridge, "up")
        sh("ip", "-n", self.name, "link", "set", "lo", "up")

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
        script = f"import socket; socket.create_connection(({address!r}, {port}), {scaled_s(3.0)}).close()"
        argv = ("ip", "netns", "exec", self.name, sys.executable, "-c", script)
        return subprocess.run(argv, capture_output=True, check=False, timeout=100).returncode == 0

    def close(self) -> None:
        for listener in self._listeners:
            listener.kill()
            listener.wait()
        sh("ip", "netns", "del", self.name)


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
