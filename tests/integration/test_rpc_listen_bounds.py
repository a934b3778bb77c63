# SPDX-License-Identifier: Apache-2.0
"""The bounds of the daemon's listener: frames, queues, silent connections, connections of a certificate."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.listener_lab import (
    AUTHORITY,
    PING,
    Daemon,
    client_context,
    daemon,
    directory,
    exchange,
)
from rpc_wait import until
from systemvm.rpc.stream import secure_transport
from systemvm.rpc.stream.listener import BOUNDS
from systemvm.wire.control_failure import ControlFailure

__all__ = ["daemon", "directory"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_bad_frames_are_answered_and_huge_ones_close(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent())

    def talk() -> tuple[list[Any], bytes]:
        with socket.create_connection(daemon.address, timeout=120) as plain:
            with context.wrap_socket(plain) as secure:
                secure.sendall(b"nonsense\n" + b'{"a":"\xff"}\n' + b"[" * 40 + b"]" * 40 + b"\n[]\n" + PING)
                stream = secure.makefile("rb")
                answers = [json.loads(stream.readline()) for _ in range(5)]
                try:
                    secure.sendall(b"x" * (1024 * 1024 + 2))
                    rest = stream.read()
                except OSError:
                    rest = b""
                return answers, rest

    answers, rest = await deferToThread(talk)
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        -32700,
        -32700,
        -32700,
        -32600,
        None,
    ]
    assert [answer["id"] for answer in answers] == [None, None, None, None, 1]
    assert rest == b"" or json.loads(rest)["error"]["code"] == -32700  # sent, if it still arrives
    await until(lambda: bool(daemon.lost))
    assert "longer than 1048576" in daemon.lost[0]


@pytest_twisted.ensureDeferred
async def test_a_flood_from_a_client_that_does_not_read_is_throttled(daemon: Daemon, directory: Path) -> None:
    """The client sends calls and reads nothing: the daemon stops reading, and its queue is bounded."""
    context = client_context(directory, AUTHORITY.agent())
    call = b'{"jsonrpc":"2.0","id":"' + b"i" * 100 + b'","method":"' + b"m" * 90 + b'"}\n'
    plain = socket.create_connection(daemon.address, timeout=120)
    secure = await deferToThread(context.wrap_socket, plain)
    secure.settimeout(1.0)

    def flood() -> int:
        sent = 0
        try:
            while sent < 256 * 1024 * 1024:
                secure.sendall(call * 500)
                sent += 500 * len(call)
        except TimeoutError:
            pass
        return sent

    try:
        sent = await deferToThread(flood)
        assert sent < 64 * 1024 * 1024, "the daemon did not stop reading"
        (peer,) = daemon.connected
        channel: Any = peer._channel
        assert channel._unsent_bytes < 4 * 1024 * 1024
    finally:
        plain.close()
        secure.close()
    await until(lambda: bool(daemon.lost))


@contextlib.contextmanager
def silent_connections(address: tuple[str, int], count: int) -> Iterator[None]:
    """Hold `count` connections of 127.0.0.1 that send nothing."""
    held = [socket.create_connection(address, timeout=120) for _ in range(count)]
    try:
        yield
    finally:
        for one in held:
            one.close()


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
@pytest_twisted.ensureDeferred
async def test_silent_connections_do_not_block_an_agent(
    daemon: Daemon, directory: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 600.0)  # so that no deadline closes them
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))

    def dial() -> bytes:
        with silent_connections(daemon.address, 500):
            return exchange(daemon.address, context, PING, source)

    assert b"result" in await deferToThread(dial)
    assert [peer.caller.name for peer in daemon.connected] == ["s-7-VM"]


@pytest_twisted.ensureDeferred
async def test_silent_connections_disconnect_no_agent_and_are_reported_once(
    daemon: Daemon, directory: Path
) -> None:
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))

    def stay() -> bytes:
        with socket.create_connection(daemon.address, timeout=120) as plain:
            with context.wrap_socket(plain) as secure:
                secure.sendall(PING)
                secure.recv(65536)
                with silent_connections(daemon.address, 500):
                    assert daemon.has_refused.wait(120), "no silent connection was closed"
                    secure.sendall(PING)
                    return secure.recv(65536)

    assert b"result" in await deferToThread(stay)
    crowded = [refusal for refusal in daemon.refused if refusal.check is ControlFailure.CROWDED]
    assert len(crowded) == 1


@pytest_twisted.ensureDeferred
async def test_one_certificate_holds_a_bounded_number_of_connections(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))

    def dial() -> ssl.SSLSocket:
        secure = context.wrap_socket(socket.create_connection(daemon.address, timeout=120))
        secure.sendall(PING)
        secure.recv(65536)
        return secure

    held = [await deferToThread(dial) for _ in range(BOUNDS.of_owner + 2)]
    await until(lambda: len(daemon.lost) == 2)
    assert "too many connections" in daemon.lost[0]
    for one in held:
        one.close()
