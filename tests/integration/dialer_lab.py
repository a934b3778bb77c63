# SPDX-License-Identifier: Apache-2.0
"""An agent's dialer on loopback, the daemon's listener, and TLS servers of the standard library to refuse."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort

from free_ports import free_ports
from rpc_pki import TestAuthority
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.stream.listener import listen
from systemvm.rpc.tls.identity import Identity
from systemvm.service.backoff import Backoff
from systemvm.wire.agent import Ping, Pong

AUTHORITY = TestAuthority()
OTHER_CA = TestAuthority()
AGENT = AUTHORITY.agent()
REACTOR: Any = reactor
MANAGEMENT = ["host-1.management.systemvm", "management.systemvm"]


class Agent:
    """A dialer that calls ping as its hello, and records what happened."""

    def __init__(self, port: int, *, identity: Identity = AGENT, hello_deadline_s: float = 30.0) -> None:
        self.identity = identity
        self.greeted: list[Peer] = []
        self.states: list[str] = []
        self.waits_s: list[float] = []
        self.hello_deadline_s = hello_deadline_s
        methods = MethodTable("agent", "1")
        methods.add("ping", self._ping, params=Ping, result=Pong, roles=frozenset({"management"}))
        backoff = Backoff(first_s=0.02, last_s=0.08, uniform=self._longest)
        self.dialer = Dialer(
            reactor,
            lambda: self.identity,
            methods,
            [("127.0.0.1", port)],
            self._hello,
            self.states.append,
            backoff=backoff,
        )

    def _longest(self, low_s: float, high_s: float) -> float:
        self.waits_s.append(high_s)
        return high_s

    async def _hello(self, peer: Peer) -> None:
        self.greeted.append(peer)
        await peer.call("ping", Ping(1.0), result=Pong, deadline_s=self.hello_deadline_s)

    async def _ping(self, call: Call, params: Ping) -> Pong:
        return Pong(params.sent_unix_s, 3.0)

    async def run_until(self, condition: Any) -> None:
        self.dialer.start()
        try:
            await until(condition)
        finally:
            await self.dialer.stop()


class Daemon:
    """The daemon's listener, which can be restarted on its port."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity or AUTHORITY.daemon()
        self.peers: list[Peer] = []
        self.lost: list[str] = []
        self.refuses = False
        self.methods = MethodTable("daemon", "1")
        self.methods.add("ping", self._ping, params=Ping, result=Pong, roles=frozenset({"ssvm"}))
        [self.port_number] = free_ports(1)  # no connection gets it while the daemon is restarted
        self._port: IListeningPort | None = None

    async def start(self) -> None:
        self._port = await listen(
            reactor,
            lambda: self.identity,
            self.methods,
            interface="127.0.0.1",
            port=self.port_number,
            known=self._known,
            on_connected=self.peers.append,
            on_lost=lambda peer, why: self.lost.append(why),
        )

    async def stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
            self._port = None
        for peer in self.peers:
            peer.close("restart")
        await until(lambda: len(self.lost) == len(self.peers))

    def _known(self, caller: Caller) -> None:
        if self.refuses:
            raise RpcError.refused("unknown", "no such system VM")

    async def _ping(self, call: Call, params: Ping) -> Pong:
        return Pong(params.sent_unix_s, 2.0)


@pytest_twisted.async_yield_fixture
async def daemon() -> Any:
    started = Daemon()
    await started.start()
    yield started
    await started.stop()


class Impostor:
    """A TLS server of the standard library: it accepts any client and records every byte that it can read."""

    def __init__(self, identity: Identity | None, *, tls_1_2: bool = False, greeting: bytes = b"") -> None:
        self.received: list[bytes] = []
        self.attempts = 0
        self._greeting = greeting
        self._context: ssl.SSLContext | None = None
        if identity is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            if tls_1_2:
                self._context.maximum_version = ssl.TLSVersion.TLSv1_2
            with tempfile.NamedTemporaryFile() as file:
                file.write(identity.private_key_pem + identity.certificate_pem)
                file.flush()
                self._context.load_cert_chain(file.name)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            accepted.settimeout(120)
            self.attempts += 1
            with contextlib.suppress(OSError), accepted:
                if self._context is None:
                    accepted.sendall(self._greeting)
                    accepted.recv(65536)
                    continue
                with self._context.wrap_socket(accepted, server_side=True) as secure:
                    while data := secure.recv(65536):
                        self.received.append(data)

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(timeout=120)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def impostor(identity: Identity | None, **options: Any) -> Iterator[Impostor]:
    server = Impostor(identity, **options)
    try:
        yield server
    finally:
        server.stop()
