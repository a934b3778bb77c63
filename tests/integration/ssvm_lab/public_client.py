# SPDX-License-Identifier: Apache-2.0
"""Clients on the public network of the SSVM under test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import trustme
from attrs import frozen

from integration.ssvm_lab.world import VM, World
from systemvm.wire.extract import ExtractSetup

ORIGIN = f"https://{VM}"

_SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 443), 60) as connection:
    connection.settimeout(120)
    try:
        connection.sendall(bytes.fromhex(sys.stdin.read()))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    except TimeoutError:
        raise
    except OSError:  # reset, also before the shutdown: "not connected" is no ConnectionError
        pass
"""


@frozen
class Client:
    """curl in the namespace of the public network; it trusts the public CA."""

    world: World
    ca: Path
    patience_s: float = 120

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        quiet = ["curl", "-sS", "--noproxy", "*", "--cacert", str(self.ca)]
        quiet += ["--max-time", str(self.patience_s)]
        return self.world.in_world(*quiet, *arguments, timeout_s=self.patience_s + 60)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        entered = [
            "nsenter",
            f"--net=/run/netns/{self.world.world_namespace}",
            "curl",
            "-s",
            "--noproxy",
            "*",
        ]
        return subprocess.Popen([*entered, "-s", "--cacert", str(self.ca), *arguments])

    def send(self, data: bytes) -> None:
        """Send bytes to the public port, and wait until the connection ends."""
        entered = ["nsenter", f"--net=/run/netns/{self.world.world_namespace}", "python3", "-c", _SEND, VM]
        subprocess.run(entered, input=data.hex().encode(), check=True, timeout=240)

    def code(self, *arguments: str) -> int:
        return int(self.curl("-o", "/dev/null", "-w", "%{http_code}", *arguments).stdout)

    def get(self, url: str, *arguments: str) -> bytes:
        done = self.curl(*arguments, url)
        assert done.returncode == 0, (done.stderr, self.world.log_of("serve")[-3000:])
        return done.stdout


def identity(authority: trustme.CA, *names: str, origin: str = ORIGIN) -> ExtractSetup:
    issued = authority.issue_cert(*names)
    chain = "".join(each.bytes().decode() for each in issued.cert_chain_pems)
    return ExtractSetup(origin, chain, issued.private_key_pem.bytes().decode())
