# SPDX-License-Identifier: Apache-2.0
"""Invalid TLS servers, and the agent's dialer, which must refuse them and name the check that failed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from integration.tls_lab import (
    AUTHORITY,
    DAEMON_NAMES,
    MINUTE,
    OTHER_CA,
    context_of,
    directory,
    of_public_ca,
    self_signed,
)
from rpc_pki import CLIENT, HOUR, SERVER
from rpc_wait import until
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream import secure_transport
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.tls.identity import Identity
from systemvm.service.backoff import Backoff

__all__ = ["directory"]  # a fixture

pytestmark = pytest.mark.timeout(90)


class Impostor:
    """A server that accepts any client, and records what it can read."""

    def __init__(self, serve: Callable[[socket.socket], bytes]) -> None:
        self.received = b""
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(120)
                self.received += self._serve(connection)

    def close(self) -> None:
        # a blocked accept does not see a close
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(120)


def over_tls(context: ssl.SSLContext) -> Callable[[socket.socket], bytes]:
    def serve(connection: socket.socket) -> bytes:
        with context.wrap_socket(connection, server_side=True) as secure:
            return secure.recv(65536)

    return serve


async def dial_impostor(serve: Callable[[socket.socket], bytes]) -> tuple[list[str], bytes]:
    """Dial an impostor once; return the states that the agent reports, and what the impostor read."""
    impostor = Impostor(serve)
    states: list[str] = []

    async def greet(peer: Any) -> None:
        await peer.call("hello", {}, deadline_s=10.0)

    dialer = Dialer(
        reactor,
        AUTHORITY.agent,
        MethodTable("agent", "1"),
        [("127.0.0.1", impostor.port)],
        greet,
        states.append,
        backoff=Backoff(first_s=40.0),
    )
    dialer.start()
    try:
        await until(lambda: any("not connected" in state for state in states))
    finally:
        await dialer.stop()
        await deferToThread(impostor.close)
    return states, impostor.received


BAD_SERVERS: dict[str, tuple[Identity, str]] = {
    "wrong CA": (OTHER_CA.daemon(), "wrong-ca"),
    "public CA": (of_public_ca(DAEMON_NAMES, SERVER), "wrong-ca"),
    "self-signed": (self_signed(DAEMON_NAMES, SERVER), "self-signed"),
    "expired": (AUTHORITY.issue(DAEMON_NAMES, [SERVER], begins=-2 * HOUR, ends=-MINUTE), "expired"),
    "not yet valid": (AUTHORITY.issue(DAEMON_NAMES, [SERVER], begins=HOUR, ends=2 * HOUR), "not-yet-valid"),
    "an agent": (AUTHORITY.agent(), "wrong-usage"),
    "client's usage": (AUTHORITY.issue(DAEMON_NAMES, [CLIENT]), "wrong-usage"),
    "both usages": (AUTHORITY.issue(DAEMON_NAMES, [CLIENT, SERVER]), "wrong-usage"),
    "wrong name": (AUTHORITY.issue(["management.example"], [SERVER]), "wrong-name"),
    "no name": (AUTHORITY.issue([], [SERVER]), "wrong-name"),
}


@pytest.mark.parametrize("what", BAD_SERVERS)
@pytest_twisted.ensureDeferred
async def test_an_agent_refuses_a_bad_daemon_and_names_the_check(directory: Path, what: str) -> None:
    identity, check = BAD_SERVERS[what]
    states, received = await dial_impostor(over_tls(context_of(identity, directory, server=True)))
    assert received == b"", "hello reached an impostor"
    assert any(f": {check}: " in state for state in states), states


@pytest_twisted.ensureDeferred
async def test_an_agent_refuses_tls_1_2_plain_text_and_garbage(directory: Path) -> None:
    old = context_of(AUTHORITY.daemon(), directory, server=True)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    states, received = await dial_impostor(over_tls(old))
    assert received == b"" and any("tls-version" in state for state in states), states

    for greeting in (b"220 welcome\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(70_000)):

        def send_greeting(connection: socket.socket, greeting: bytes = greeting) -> bytes:
            connection.sendall(greeting)
            return b"".join(iter(lambda: connection.recv(65536), b""))

        states, received = await dial_impostor(send_greeting)
        assert b"jsonrpc" not in received
        assert any("not-tls" in state for state in states), states


@pytest_twisted.ensureDeferred
async def test_an_agent_times_out_a_silent_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 0.3)
    states, received = await dial_impostor(
        lambda connection: b"".join(iter(lambda: connection.recv(65536), b""))
    )
    assert b"jsonrpc" not in received
    assert any("handshake-timeout" in state for state in states), states
