# SPDX-License-Identifier: Apache-2.0
"""An SSVM's agent as a process of its own on this host, with a daemon of a benchmark at its other end.

It has the files of a system VM below a temporary root, its control channel is TLS, and its role uses the
processes of a lab's world.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from benchmark.lab_storage_role import VARIABLE
from benchmark.tiny_daemon import TinyDaemon
from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.world import AGENTS, BOOT, World
from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.tls.identity import Identity
from systemvm.ssvm.paths import Paths
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role

HERE = Path(__file__).resolve().parent
NAME = "s-1-VM"
UP_S = 120.0


class AgentProcess:
    """One agent; `pid` is its process."""

    def __init__(
        self,
        directory: Path,
        paths: Paths,
        port: int,
        identity: Identity,
        by: Sequence[str] = ("-m",),
        name: str = NAME,
    ) -> None:
        """Start it; `by` are Python's arguments in front of its module."""
        root, credentials = directory / "root", directory / "credentials"
        guest = GuestPaths(root, credentials)
        for made in (credentials, guest.run, guest.this_start, guest.image_json.parent):
            made.mkdir(parents=True, exist_ok=True)
        guest.ssh_host_key.with_suffix(".pub").write_text("ssh-ed25519 AAAA root@s-1-VM\n")
        guest.image_json.write_text('{"version": "1", "sha256": "ab", "role": "ssvm", "built": "now"}')
        dials = {"name": name, "host": "127.0.0.1", "port": str(port)}
        text = " ".join(f"{key}={value}" for key, value in (BOOT | dials).items())
        store(text, boot_arguments.parse(text), guest)
        (credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(identity.to_pem_bundle())
        module = "benchmark.lab_storage_role"
        self.log = directory / "agent.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *by, "systemvm.guest.agent", "--root", str(root), "--role-module", module],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": f"{AGENTS}:{HERE.parent}",
                    "CREDENTIALS_DIRECTORY": str(credentials),
                    VARIABLE: json.dumps({key: str(path) for key, path in attrs.asdict(paths).items()}),
                },
            )  # fmt: skip
        self.pid = self._process.pid

    def check(self) -> None:
        """Check that it runs.

        Raises: SystemExit with its log when it has ended.
        """
        if self._process.poll() is not None:
            raise SystemExit(f"error: the agent ended:\n{self.log.read_text()[-3000:]}")

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


class ProcessDaemon(Daemon):
    """The daemon's side of an agent that is a process: `download` as with one that runs in a test."""

    def __init__(self, reactor: Any, directory: Path, world: World, by: Sequence[str] = ("-m",)) -> None:
        super().__init__(directory, world)
        self._reactor: IReactorTime = reactor
        self._directory = directory
        self._by = by
        self._authority = ControlAuthority(CertificateAuthority.create("bench"))
        self._tiny = TinyDaemon(reactor, self._authority, self._greeted)
        self._up: Deferred[None] = Deferred()
        self.process: AgentProcess | None = None

    async def start(self) -> ProcessDaemon:
        self.add_methods(self._tiny.methods)
        self._port = await self._tiny.start(port=0, on_connected=self._connected)
        host: Any = self._port.getHost()
        identity = self._authority.bootstrap(NAME, Role.SSVM)
        self.process = AgentProcess(self._directory, self._world.paths, host.port, identity, self._by)
        await self._up.addTimeout(UP_S, self._reactor, onTimeoutCancel=self._not_up)
        return self

    async def close(self) -> None:
        if self.process is not None:
            self.process.end()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)

    @property
    def agent_pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _connected(self, peer: Peer) -> None:
        self.agent = peer

    def _greeted(self, name: str) -> None:
        if not self._up.called:
            self._up.callback(None)

    def _not_up(self, result: object, timeout_s: float) -> None:
        if self.process is not None:
            self.process.check()
        raise SystemExit(f"error: the agent was not Up after {timeout_s:g} s")
