# SPDX-License-Identifier: Apache-2.0
"""The agent's process as a CPVM: set up over mutual TLS, with an inherited socket and a console."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, DeferredQueue

from integration.cpvm_lab.agent import AS_SYSTEMD
from integration.cpvm_lab.console_process import TOP, ConsoleProcess, novnc
from integration.cpvm_lab.vnc_server import FakeVncServer, shake_hands
from integration.cpvm_lab.wire import open_console
from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.listener import listen
from systemvm.wire import agent, boot_arguments, console, protocol
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role

pytestmark = pytest.mark.timeout(60)

NAME = "v-2-VM"
CPVM = frozenset({Role.CPVM.value})
RSS_LIMIT_BYTES = 60 << 20


class Daemon:
    """The methods that a CPVM calls, behind a real listener."""

    def __init__(self) -> None:
        self.authority = ControlAuthority(CertificateAuthority.create("test"))
        self.hellos: DeferredQueue[Peer] = DeferredQueue()
        self.closed: DeferredQueue[console.ConsoleClosed] = DeferredQueue()
        self.used_tokens: list[str] = []
        self.screen_port = 0
        self.listening: Any = None
        self.methods = MethodTable("daemon", "0")
        add = self.methods.add
        add(agent.HELLO, self._hello, params=agent.Hello, result=agent.Welcome, roles=CPVM)
        add(agent.PING, self._ping, params=agent.Ping, result=agent.Pong, roles=CPVM)
        add(agent.SIGN, self._sign, params=agent.SigningRequest, result=agent.SignedCertificate, roles=CPVM)
        add(
            console.CONSOLE_AUTHORIZE,
            self._authorize,
            params=console.ConsoleAuthorize,
            result=console.ConsoleSession,
            roles=CPVM,
        )
        add(
            console.CONSOLE_TARGET,
            self._target,
            params=console.ConsoleTargetRequest,
            result=console.ConsoleTarget,
            roles=CPVM,
        )
        add(
            console.CONSOLE_CLOSED,
            self._closed,
            params=console.ConsoleClosed,
            result=Acknowledgement,
            roles=CPVM,
        )
        add(console.CONSOLE_LOAD, self._load, params=console.ConsoleLoad, result=Acknowledgement, roles=CPVM)

    async def start(self) -> None:
        identity = self.authority.daemon_identity("test")
        self.listening = await listen(
            reactor,
            lambda: identity,
            self.methods,
            interface="127.0.0.1",
            port=0,
            known=lambda caller: None,
            on_connected=lambda peer: None,
            on_lost=lambda peer, why: None,
        )

    async def _hello(self, call: Call, hello: agent.Hello) -> agent.Welcome:
        assert call.peer is not None
        self.hellos.put(cast(Peer, call.peer))
        return agent.Welcome(protocol.CURRENT, "host-1", time.time(), 5.0)

    async def _ping(self, call: Call, ping: agent.Ping) -> agent.Pong:
        return agent.Pong(ping.sent_unix_s, time.time())

    async def _sign(self, call: Call, request: agent.SigningRequest) -> agent.SignedCertificate:
        certificate_pem = self.authority.sign(request.csr_pem, call.caller.name, Role(call.caller.role))
        return agent.SignedCertificate(certificate_pem, self.authority.ca_pem.decode())

    async def _authorize(self, call: Call, request: console.ConsoleAuthorize) -> console.ConsoleSession:
        self.used_tokens.append(request.token)
        return console.ConsoleSession("session-1", "vm-1", "web-1", 2.0)

    async def _target(self, call: Call, request: console.ConsoleTargetRequest) -> console.ConsoleTarget:
        return console.ConsoleTarget("127.0.0.1", self.screen_port, None)

    async def _closed(self, call: Call, closed: console.ConsoleClosed) -> Acknowledgement:
        self.closed.put(closed)
        return Acknowledgement()

    async def _load(self, call: Call, load: console.ConsoleLoad) -> Acknowledgement:
        return Acknowledgement()


class Cpvm:
    """A CPVM's files below a temporary root, and the agent started on them with its listening socket."""

    def __init__(self, top: Path, daemon: Daemon) -> None:
        root, credentials = top / "root", top / "credentials"
        self.paths = GuestPaths(root, credentials)
        self.paths.run.mkdir(parents=True)
        credentials.mkdir()
        self.paths.image_json.parent.mkdir(parents=True)
        self.paths.image_json.write_text('{"version": "7", "sha256": "ab", "role": "cpvm", "built": "now"}')
        (root / "opt/systemvm").mkdir(parents=True)
        subprocess.run(["cp", "-R", novnc(), root / "opt/systemvm/novnc"], check=True, timeout=30)
        number = daemon.listening.getHost().port
        text = f"type=consoleproxy name={NAME} host=127.0.0.1 port={number} eth0ip=169.254.1.2"
        store(text, boot_arguments.parse(text), self.paths)
        bundle = daemon.authority.bootstrap(NAME, Role.CPVM).to_pem_bundle()
        (credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(bundle)
        self.log_path = top / "agent.log"
        self.client_context: Callable[[], ssl.SSLContext] = ssl.create_default_context
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        agent_command = [sys.executable, "-m", "systemvm.guest.agent", "--root", str(root)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD, str(listening.fileno()), *agent_command],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(TOP / "agents"),
                    "CREDENTIALS_DIRECTORY": str(credentials),
                    "LISTEN_FDS": "1",
                    "LISTEN_FDNAMES": "console",
                },
                pass_fds=[listening.fileno()],
                stdout=log,
                stderr=log,
            )
        listening.close()

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=15) == 0, self.log_path.read_text()


@pytest.fixture
def daemon_and_cpvm(tmp_path: Path) -> Iterator[tuple[Daemon, Cpvm]]:
    daemon = Daemon()
    pytest_twisted.blockon(Deferred.fromCoroutine(daemon.start()))
    cpvm = Cpvm(tmp_path, daemon)
    yield daemon, cpvm
    pytest_twisted.blockon(threads.deferToThread(cpvm.close))
    pytest_twisted.blockon(daemon.listening.stopListening())


@pytest_twisted.ensureDeferred
async def test_a_console_through_the_agent(daemon_and_cpvm: tuple[Daemon, Cpvm]) -> None:
    daemon, cpvm = daemon_and_cpvm
    peer = await daemon.hellos.get().addTimeout(20, reactor)
    public = trustme.CA()
    issued = public.issue_cert("127.0.0.1")
    setup = console.ConsoleSetup(
        cpvm.origin,
        b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
        issued.private_key_pem.bytes().decode(),
    )
    for _ in range(2):  # idempotent
        assert await peer.call(console.CONSOLE_SETUP, setup, result=Acknowledgement) == Acknowledgement()

    def echo(peer: socket.socket) -> None:
        shake_hands(peer)
        while data := peer.recv(4096):
            peer.sendall(data)

    screen = FakeVncServer(echo)
    daemon.screen_port = screen.port

    def hold() -> Any:
        trusting = ssl.create_default_context()
        public.configure_trust(trusting)
        cpvm.client_context = lambda: trusting
        connection = open_console(cast(ConsoleProcess, cpvm), "f1rst")
        connection.greet()
        return connection

    # What the daemon reconciles: it lists the console's sessions, and ends those that it no longer has.
    held = await threads.deferToThread(hold)
    read_stored = await peer.call(console.CONSOLE_LIST, result=console.ConsoleSessions)
    assert read_stored.session_ids == ["session-1"]
    ending = console.ConsoleEnd(["session-1", "unknown"], "it has ended")
    assert await peer.call(console.CONSOLE_END, ending, result=Acknowledgement) == Acknowledgement()
    assert (await daemon.closed.get().addTimeout(20, reactor)).session_id == "session-1"
    assert (await peer.call(console.CONSOLE_LIST, result=console.ConsoleSessions)).session_ids == []
    held.close()

    def browse() -> None:
        connection = open_console(cast(ConsoleProcess, cpvm), "t0ken")
        connection.greet()
        connection.send_frame(2, b"hello")
        assert connection.data(5) == b"hello"
        connection.close()

    await threads.deferToThread(browse)
    assert daemon.used_tokens == ["f1rst", "t0ken"]
    # After its lifetime, the session's end is reported.
    closed = await daemon.closed.get().addTimeout(20, reactor)
    assert closed.session_id == "session-1"
    health = await peer.call(agent.HEALTH, result=agent.Health)
    assert health.agent_rss_bytes <= RSS_LIMIT_BYTES
    assert "t0ken" not in cpvm.log_path.read_text()
    screen.close()
