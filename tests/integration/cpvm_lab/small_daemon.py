# SPDX-License-Identifier: Apache-2.0
"""The agent's process as a CPVM with its listening socket, and a small daemon behind a real listener."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import trustme
from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue

from integration.cpvm_lab.agent import AS_SYSTEMD
from integration.cpvm_lab.console_process import TOP, install_stock
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

NAME = "v-2-VM"
CPVM = frozenset({Role.CPVM.value})


class Daemon:
    """The methods that a CPVM calls, behind a real listener."""

    def __init__(self) -> None:
        self.authority = ControlAuthority(CertificateAuthority.create("test"))
        self.hellos: DeferredQueue[Peer] = DeferredQueue()
        self.closed: DeferredQueue[console.ConsoleClosed] = DeferredQueue()
        self.used_tokens: list[str] = []
        self.screen_port = 0
        self.opened_screens = 0
        self.answers_screens = False  # with the session, as a daemon of today does
        self.lifetime_s = 10.0
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
        screen = self._screen() if self.answers_screens and request.with_target else None
        return console.ConsoleSession("session-1", "vm-1", "web-1", self.lifetime_s, target=screen)

    async def _target(self, call: Call, request: console.ConsoleTargetRequest) -> console.ConsoleTarget:
        self.opened_screens += 1
        return self._screen()

    def _screen(self) -> console.ConsoleTarget:
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
        install_stock(root / "opt/systemvm")
        number = daemon.listening.getHost().port
        text = f"type=consoleproxy name={NAME} host=127.0.0.1 port={number} eth0ip=169.254.1.2"
        store(text, boot_arguments.parse(text), self.paths)
        bundle = daemon.authority.bootstrap(NAME, Role.CPVM).to_pem_bundle()
        (credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(bundle)
        self.log_path = top / "agent.log"
        self.client_context: Callable[[], ssl.SSLContext] = ssl.create_default_context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start the agent with the socket, which goes on listening when the agent ends."""
        descriptor = self._listening.fileno()
        agent_command = [sys.executable, "-m", "systemvm.guest.agent", "--root", str(self.paths.root)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD, str(descriptor), *agent_command],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(TOP / "agents"),
                    "CREDENTIALS_DIRECTORY": str(self.paths.credentials),
                    "LISTEN_FDS": "1",
                    "LISTEN_FDNAMES": "console",
                },
                pass_fds=[descriptor],
                stdout=log,
                stderr=log,
            )

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=120)

    def terminate(self) -> None:
        """Stop it as systemd does for a restart."""
        self.process.terminate()
        assert self.process.wait(timeout=120) == 0, self.log_path.read_text()

    def close(self) -> None:
        self.terminate()
        self._listening.close()


class PublicCertificate:
    """A certificate for the console's address, as the daemon sends it."""

    def __init__(self, cpvm: Cpvm) -> None:
        self._authority = trustme.CA()
        issued = self._authority.issue_cert("127.0.0.1")
        self.setup = console.ConsoleSetup(
            cpvm.origin,
            b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
            issued.private_key_pem.bytes().decode(),
        )
        trusting = ssl.create_default_context()
        self._authority.configure_trust(trusting)
        cpvm.client_context = lambda: trusting
