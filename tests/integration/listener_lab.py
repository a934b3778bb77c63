# SPDX-License-Identifier: Apache-2.0
"""The daemon's listener on loopback, and clients that use the standard library's `ssl`."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from rpc_pki import TestAuthority
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.listener import listen
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.refusal import Refusal
from systemvm.wire.agent import Ping, Pong

AUTHORITY = TestAuthority()
OTHER_CA = TestAuthority()
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"sent_unix_s":1.0}}\n'


class Daemon:
    """A listener, and a record of its clients."""

    def __init__(self) -> None:
        self.identity = AUTHORITY.daemon()
        self.connected: list[Peer] = []
        self.lost: list[str] = []
        self.refused: list[Refusal] = []
        self.has_refused = threading.Event()
        self.handled = 0
        self.methods = MethodTable("daemon", "1")
        self.methods.add("ping", self._ping, params=Ping, result=Pong, roles=frozenset({"ssvm"}))
        self.port: Any = None

    async def start(self) -> None:
        self.port = await listen(
            reactor,
            lambda: self.identity,
            self.methods,
            interface="127.0.0.1",
            port=0,
            known=self._known,
            on_connected=self.connected.append,
            on_lost=lambda peer, why: self.lost.append(why),
            on_refused=self._record_refusal,
        )

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port.getHost().port

    async def stop(self) -> None:
        await self.port.stopListening()
        for peer in self.connected:
            peer.close("the test is over")
        await until(lambda: len(self.lost) == len(self.connected))

    def _record_refusal(self, address: str, refusal: Refusal) -> None:
        self.refused.append(refusal)
        self.has_refused.set()

    async def _ping(self, call: Call, params: Ping) -> Pong:
        self.handled += 1
        return Pong(params.sent_unix_s, 2.0)

    @staticmethod
    def _known(caller: Caller) -> None:
        if caller.name == "s-99-VM":
            raise RpcError.refused("unknown", "no such system VM")


@pytest_twisted.async_yield_fixture
async def daemon() -> Any:
    started = Daemon()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def client_context(directory: Path, identity: Identity | None) -> ssl.SSLContext:
    """Return the context of a client that accepts any server, and presents `identity` if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        path = directory / "client.pem"
        path.write_bytes(identity.private_key_pem + identity.certificate_pem)
        context.load_cert_chain(path)
    return context


def exchange(
    address: tuple[str, int], context: ssl.SSLContext, data: bytes, source: str = "127.0.0.1"
) -> bytes:
    """Send, and return a line or what comes before the end.

    Raises: OSError, also as ssl.SSLError, when the server refuses.
    """
    with socket.create_connection(address, timeout=120, source_address=(source, 0)) as plain:
        with context.wrap_socket(plain) as secure:
            secure.sendall(data)
            received = b""
            while b"\n" not in received and (more := secure.recv(65536)):
                received += more
            return received
