# SPDX-License-Identifier: Apache-2.0
"""The daemon's listener against real clients on loopback: a valid one, and clients to refuse.

The clients to refuse use the standard library's `ssl`, and none of the project's code.
"""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.listener_lab import (
    AUTHORITY,
    OTHER_CA,
    PING,
    Daemon,
    client_context,
    daemon,
    directory,
    exchange,
)
from rpc_pki import CLIENT, HOUR, SERVER
from rpc_wait import until
from systemvm.rpc.core.method import Caller
from systemvm.rpc.stream import secure_transport
from systemvm.rpc.tls.identity import Identity

__all__ = ["daemon", "directory"]  # fixtures


async def refused(daemon: Daemon, context: ssl.SSLContext) -> None:
    """Assert that the client gets no response, and that the daemon has neither a peer nor a call."""
    try:
        received = await deferToThread(exchange, daemon.address, context, PING)
    except OSError:
        received = b""
    assert received == b""
    assert daemon.connected == [] and daemon.handled == 0


@pytest_twisted.ensureDeferred
async def test_an_agent_is_known_by_its_certificate_and_answered(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))
    answer = json.loads(await deferToThread(exchange, daemon.address, context, PING))
    assert answer["result"] == {"sent_unix_s": 1.0, "clock_unix_s": 2.0}
    assert daemon.connected[0].caller == Caller("s-7-VM", "ssvm")
    await until(lambda: bool(daemon.lost))


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_certificate_is_refused(daemon: Daemon, directory: Path) -> None:
    await refused(daemon, client_context(directory, None))


BAD_AGENTS = {
    "another CA": OTHER_CA.agent(),
    "expired": AUTHORITY.issue(
        ["s-1-vm.ssvm.systemvm"], [CLIENT], begins=-2 * HOUR, ends=-datetime.timedelta(minutes=1)
    ),
    "not yet valid": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [CLIENT], begins=HOUR, ends=2 * HOUR),
    "wrong name": AUTHORITY.issue(["s-1-vm.ssvm.example"], [CLIENT]),
    "no name": AUTHORITY.issue([], [CLIENT]),
    "two names": AUTHORITY.issue(["s-1-vm.ssvm.systemvm", "v-2-vm.cpvm.systemvm"], [CLIENT]),
    "wrong role": AUTHORITY.issue(["r-1-vm.router.systemvm"], [CLIENT]),
    "a daemon's name": AUTHORITY.issue(["management.systemvm"], [CLIENT]),
    "a daemon's certificate": AUTHORITY.daemon(),
    "an agent's name for servers": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [SERVER]),
    "an agent's name for both": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [CLIENT, SERVER]),
    "an agent's name for anything": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], []),
    "not known": AUTHORITY.agent("s-99-VM"),
}


@pytest.mark.parametrize("what", BAD_AGENTS)
@pytest_twisted.ensureDeferred
async def test_a_client_with_a_bad_certificate_is_refused(daemon: Daemon, directory: Path, what: str) -> None:
    await refused(daemon, client_context(directory, BAD_AGENTS[what]))


@pytest_twisted.ensureDeferred
async def test_tls_1_2_is_refused(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        await deferToThread(exchange, daemon.address, context, PING)
    assert daemon.connected == []


@pytest.mark.parametrize(
    "garbage", [PING, b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), b"\x16\x03\x01\xff\xff"]
)
@pytest_twisted.ensureDeferred
async def test_plain_bytes_are_refused(daemon: Daemon, garbage: bytes) -> None:
    def send_plain() -> bytes:
        with socket.create_connection(daemon.address, timeout=120) as plain:
            received = b""
            try:
                plain.sendall(garbage)
                plain.shutdown(socket.SHUT_WR)
                while more := plain.recv(65536):
                    received += more
            except OSError:
                pass
            return received

    received = await deferToThread(send_plain)
    assert b"jsonrpc" not in received
    assert daemon.connected == [] and daemon.handled == 0


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_handshake_is_disconnected(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 0.2)

    def wait() -> bytes:
        with socket.create_connection(daemon.address, timeout=120) as plain:
            try:
                return plain.recv(1)
            except ConnectionResetError:
                return b""

    assert await deferToThread(wait) == b""


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent())

    def reused(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
        with socket.create_connection(daemon.address, timeout=120) as plain:
            with context.wrap_socket(plain, session=session) as secure:
                secure.sendall(PING)
                assert b"result" in secure.recv(65536)
                return secure.session_reused, secure.session

    _, session = await deferToThread(reused, None)
    again, _ = await deferToThread(reused, session)
    assert again is False


@pytest_twisted.ensureDeferred
async def test_a_renewed_identity_serves_the_next_connection_and_a_bad_one_is_not_used(
    daemon: Daemon, directory: Path
) -> None:
    context = client_context(directory, AUTHORITY.agent())

    def serial() -> int:
        from cryptography import x509

        with socket.create_connection(daemon.address, timeout=120) as plain:
            with context.wrap_socket(plain) as secure:
                der = secure.getpeercert(binary_form=True)
                assert der is not None
                return x509.load_der_x509_certificate(der).serial_number

    first = await deferToThread(serial)
    daemon.identity = AUTHORITY.daemon("host-2")
    second = await deferToThread(serial)
    daemon.identity = Identity(b"", b"", b"")
    third = await deferToThread(serial)
    assert first != second and second == third


@pytest_twisted.ensureDeferred
async def test_a_listener_without_a_usable_identity_does_not_start() -> None:
    bad = Daemon()
    bad.identity = Identity(b"", b"", b"")
    with pytest.raises(ValueError, match="unusable"):
        await bad.start()
