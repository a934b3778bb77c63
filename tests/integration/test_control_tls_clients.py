# SPDX-License-Identifier: Apache-2.0
"""Invalid TLS clients, and the daemon's listener, which must refuse them and name the check that failed.

The clients use the standard library's `ssl`, OpenSSL's own connection or plain sockets.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from integration.tls_lab import (
    AGENT_NAME,
    AUTHORITY,
    HELLO,
    MINUTE,
    OTHER_CA,
    REVOKED,
    context_of,
    directory,
    of_public_ca,
    self_signed,
)
from rpc_pki import CLIENT, HOUR, SERVER
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.stream import secure_transport
from systemvm.rpc.stream.listener import listen
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import describe_certificate_pem
from systemvm.rpc.tls.refusal import Refusal

__all__ = ["directory"]  # a fixture

pytestmark = pytest.mark.timeout(90)


class Listener:
    """The daemon's listener, and a record of what it refused."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, Refusal]] = []
        self.connected: list[Any] = []
        self.lost = 0
        self._port: Any = None

    async def start(self) -> None:
        self._port = await listen(
            reactor,
            AUTHORITY.daemon,
            MethodTable("daemon", "1"),
            interface="127.0.0.1",
            port=0,
            known=self._known,
            on_connected=self.connected.append,
            on_lost=self._lost,
            on_refused=lambda address, why: self.refused.append((address, why)),
        )

    def _lost(self, peer: object, why: str) -> None:
        self.lost += 1

    @staticmethod
    def _known(caller: Caller) -> None:
        assert caller.certificate is not None
        if caller.certificate.serial == describe_certificate_pem(REVOKED.certificate_pem).serial:
            raise RpcError.refused("revoked", "its certificate was revoked")
        if caller.name == "s-99-VM":
            raise RpcError.refused("not-found", "there is no such system VM")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port.getHost().port

    async def stop(self) -> None:
        await self._port.stopListening()
        for peer in self.connected:
            peer.close("the test is over")
        await until(lambda: self.lost == len(self.connected))


@pytest_twisted.async_yield_fixture
async def listener() -> Any:
    started = Listener()
    await started.start()
    yield started
    await started.stop()


def call_over_tls(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """Call hello over TLS, and return all that the daemon sends."""
    with contextlib.suppress(OSError):
        with socket.create_connection(address, timeout=120) as plain, context.wrap_socket(plain) as secure:
            secure.sendall(HELLO)
            return secure.recv(65536)
    return b""


def send_plain(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes without TLS, and return all that the daemon sends."""
    received = b""
    with contextlib.suppress(OSError):
        with socket.create_connection(address, timeout=120) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            while more := plain.recv(65536):
                received += more
    return received


BAD_CLIENTS: dict[str, tuple[Identity | None, str]] = {
    "no certificate": (None, "no-certificate"),
    "wrong CA": (OTHER_CA.agent(), "wrong-ca"),
    "public CA": (of_public_ca(AGENT_NAME, CLIENT), "wrong-ca"),
    "self-signed": (self_signed(AGENT_NAME, CLIENT), "self-signed"),
    "expired": (AUTHORITY.issue(AGENT_NAME, [CLIENT], begins=-2 * HOUR, ends=-MINUTE), "expired"),
    "not yet valid": (AUTHORITY.issue(AGENT_NAME, [CLIENT], begins=HOUR, ends=2 * HOUR), "not-yet-valid"),
    "server's usage": (AUTHORITY.issue(AGENT_NAME, [SERVER]), "wrong-usage"),
    "both usages": (AUTHORITY.issue(AGENT_NAME, [CLIENT, SERVER]), "wrong-usage"),
    "a daemon": (AUTHORITY.daemon(), "wrong-usage"),
    "wrong name": (AUTHORITY.issue(["s-1-vm.ssvm.example"], [CLIENT]), "wrong-name"),
    "wrong role": (AUTHORITY.issue(["r-1-vm.router.systemvm"], [CLIENT]), "wrong-name"),
    "two names": (AUTHORITY.issue([*AGENT_NAME, "v-2-vm.cpvm.systemvm"], [CLIENT]), "wrong-name"),
    "revoked": (REVOKED, "revoked"),
    "not here": (AUTHORITY.agent("s-99-VM"), "unknown-vm"),
}


@pytest.mark.parametrize("what", BAD_CLIENTS)
@pytest_twisted.ensureDeferred
async def test_the_daemon_refuses_a_bad_agent_and_names_the_check(
    listener: Listener, directory: Path, what: str
) -> None:
    identity, check = BAD_CLIENTS[what]
    answer = await deferToThread(call_over_tls, listener.address, context_of(identity, directory))
    assert answer == b""
    await until(lambda: bool(listener.refused))
    ((address, refusal),) = listener.refused
    assert (address, refusal.check.value) == ("127.0.0.1", check)
    assert refusal.text and refusal.hint
    assert listener.connected == []


@pytest.mark.parametrize(
    ("data", "check"),
    [
        (HELLO, "not-tls"),
        (b"GET / HTTP/1.1\r\n\r\n", "not-tls"),
        (bytes(100_000), "not-tls"),
        (b"\x16\x03\x01\xff\xff" + bytes(70_000), "not-tls"),
        (b"", "hung-up"),
        (b"\x16\x03\x01\x00\x05", "hung-up"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_daemon_refuses_data_that_is_not_tls(listener: Listener, data: bytes, check: str) -> None:
    answer = await deferToThread(send_plain, listener.address, data)
    assert b"jsonrpc" not in answer
    await until(lambda: bool(listener.refused))
    assert listener.refused[0][1].check.value == check
    assert listener.connected == []


@pytest_twisted.ensureDeferred
async def test_the_daemon_refuses_tls_1_2(listener: Listener, directory: Path) -> None:
    context = context_of(AUTHORITY.agent(), directory)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await deferToThread(call_over_tls, listener.address, context) == b""
    await until(lambda: bool(listener.refused))
    assert listener.refused[0][1].check.value == "tls-version"


@pytest_twisted.ensureDeferred
async def test_the_daemon_times_out_an_incomplete_handshake(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 0.3)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    half = context.wrap_bio(incoming, outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    first = outgoing.read()

    def half_then_nothing() -> bytes:
        with socket.create_connection(listener.address, timeout=120) as plain:
            plain.sendall(first[: len(first) // 2])
            with contextlib.suppress(ConnectionResetError):
                return plain.recv(1)
            return b""

    assert await deferToThread(half_then_nothing) == b""
    await until(lambda: bool(listener.refused))
    assert listener.refused[0][1].check.value == "handshake-timeout"


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed_or_renegotiated(listener: Listener, directory: Path) -> None:
    identity = AUTHORITY.agent()
    context = context_of(identity, directory)

    def resumed() -> bool | None:
        session = None
        for _ in range(2):
            with socket.create_connection(listener.address, timeout=120) as plain:
                with context.wrap_socket(plain, session=session) as secure:
                    secure.sendall(HELLO)
                    assert b"jsonrpc" in secure.recv(65536)
                    session, again = secure.session, secure.session_reused
        return again

    assert await deferToThread(resumed) is False  # OpenSSL sends a ticket, but the server does not accept it

    def renegotiated() -> bool:
        plain_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        path = directory / "end-False.pem"
        plain_context.use_certificate_file(str(path))
        plain_context.use_privatekey_file(str(path))
        with socket.create_connection(listener.address, timeout=120) as plain:
            plain.settimeout(None)
            secure = SSL.Connection(plain_context, plain)
            secure.set_connect_state()
            secure.do_handshake()
            try:
                return secure.renegotiate()
            except SSL.Error:
                return False

    assert await deferToThread(renegotiated) is False
