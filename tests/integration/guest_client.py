# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine does in its guest network, by busybox and curl in a namespace in its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from integration.network_lab import sh

SEND = """
import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("eth0", 0))
for frame in sys.argv[1:]:
    sender.send(bytes.fromhex(frame))
"""
SCRIPT = '#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n'


class GuestClient:
    """The programs of a machine; its network card is eth0 of the namespace."""

    def __init__(self, name: str, directory: Path, *, server: str = "10.13.0.1") -> None:
        self.name = name
        self._server = server  # the host's address in the network
        self._script = directory / "script"
        self._script.write_text(SCRIPT)
        self._script.chmod(0o755)

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
