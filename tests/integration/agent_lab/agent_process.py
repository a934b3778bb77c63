# SPDX-License-Identifier: Apache-2.0
"""An agent process, its files below a temporary root, and its service manager."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol

from integration.agent_lab.fake_daemon import FakeDaemon, soon
from present import present
from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role

AGENTS = Path(__file__).resolve().parents[3] / "agents"
NAME = "s-1-VM"

ROLE_MODULE = """
from systemvm.wire.acknowledgement import Acknowledgement


def install(context):
    async def greet(call, params):
        return Acknowledgement()
    async def reconcile(peer):
        seen = {"name": context.name, "sockets": sorted(context.sockets)}
        await context.call_daemon("test.reconcile", seen)
    async def stop():
        (context.paths.root / "stopped").write_text("yes")
    context.methods.add(
        "test.greet", greet, params=None, result=Acknowledgement, roles=frozenset({"management"})
    )
    context.on_connected.append(reconcile)
    context.on_stop.append(stop)
"""


class Notices(DatagramProtocol):
    """The service manager's end of $NOTIFY_SOCKET, with a queue of notifications."""

    def __init__(self) -> None:
        self.received: DeferredQueue[str] = DeferredQueue()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.put(datagram.decode())

    async def until(self, wanted: Callable[[str], bool], what: str) -> str:
        while True:
            text: str = await soon(self.received.get(), what)
            if wanted(text):
                return text


class AgentProcess(ProcessProtocol):
    """One agent, with its output and its exit code."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[int | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode)


class Machine:
    """The files of a system VM below a temporary root, and the agents started on them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "root"
        self.credentials = top / "credentials"
        self.paths = GuestPaths(self.root, self.credentials)
        self.notices = Notices()
        self._notify_port = cast(Any, reactor).listenUNIXDatagram(str(top / "notify"), self.notices)
        self._agents: list[AgentProcess] = []
        self.paths.run.mkdir(parents=True)
        self.paths.this_start.mkdir(parents=True)
        self.paths.ssh_host_key.with_suffix(".pub").write_text("ssh-ed25519 AAAA root@s-1-VM\n")
        self.paths.image_json.parent.mkdir(parents=True)
        self.paths.image_json.write_text('{"version": "7", "sha256": "ab", "role": "ssvm", "built": "now"}')
        self.credentials.mkdir()
        (top / "guest_test_role.py").write_text(ROLE_MODULE)

    def prepare(self, authority: ControlAuthority, port: int) -> None:
        text = f"type=secstorage name={NAME} host=127.0.0.1 port={port} eth0ip=169.254.1.1"
        store(text, boot_arguments.parse(text), self.paths)
        bundle = authority.bootstrap(NAME, Role.SSVM).to_pem_bundle()
        (self.credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(bundle)

    def start(self, *, ignoring_interrupts: bool = False) -> AgentProcess:
        agent = AgentProcess()
        command = [sys.executable, "-m", "systemvm.guest.agent", "--root", str(self.root)]
        command += ["--role-module", "guest_test_role"]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{AGENTS}:{self.top}",
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "NOTIFY_SOCKET": str(self.top / "notify"),
            "WATCHDOG_USEC": "1000000",
        }
        if ignoring_interrupts:  # a shell without job control starts `PROGRAM &` like this
            command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
        reactor.spawnProcess(agent, shutil.which(command[0]) or "", command, env=environment)
        self._agents.append(agent)
        return agent

    async def close(self) -> None:
        for agent in self._agents:
            if not agent.ended.called:
                present(agent.transport).signalProcess("KILL")
            await agent.ended
        await self._notify_port.stopListening()


Setup = tuple[FakeDaemon, Machine]


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    daemon = FakeDaemon(ControlAuthority(CertificateAuthority.create("test")))
    machine = Machine(tmp_path)

    async def begin() -> None:
        await daemon.start()
        machine.prepare(daemon.authority, daemon.port_number)

    async def end() -> None:
        await machine.close()
        await daemon.stop()

    pytest_twisted.blockon(Deferred.fromCoroutine(begin()))
    yield daemon, machine
    pytest_twisted.blockon(Deferred.fromCoroutine(end()))
