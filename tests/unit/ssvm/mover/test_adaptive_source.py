# SPDX-License-Identifier: Apache-2.0
"""A file over several connections: in order and complete, whatever the connections do."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable

import pytest
from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover import adaptive_source
from systemvm.ssvm.mover.adaptive_source import AdaptiveSource
from systemvm.ssvm.mover.resuming_source import ResumingSource
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

MIB = 1 << 20
HANG_S = 60.0
FILE = os.urandom(24 * MIB)
JOB = MoverJob("job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.RAW, 1 << 30)
#: What a server does with a request for a range, on a connection with a number.
Behaviour = Callable[[int, socket.socket, int, int], bool]


def send_part(
    connection: socket.socket, start: int, end: int, tag: str = "one", cut: int | None = None
) -> None:
    head = (
        f"HTTP/1.1 206 Part\r\nContent-Range: bytes {start}-{end - 1}/{len(FILE)}\r\n"
        f'ETag: "{tag}"\r\nContent-Length: {end - start}\r\n\r\n'
    )
    connection.sendall(head.encode() + FILE[start : end if cut is None else start + cut])


class Server:
    """Serves each connection in a thread; `request_connection` opens one, as fetch would."""

    def __init__(self, behave: Behaviour, most: int = 4) -> None:
        self._behave = behave
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[socket.socket] = []
        self.range_answered = threading.Event()
        self.opened = 0
        self.ranges: list[tuple[int, int]] = []

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with self._lock:
            self.opened += 1
            number = self.opened
        threading.Thread(target=self._serve, args=(number, theirs), daemon=True).start()
        return ours

    def request_connection(self) -> None:
        if self.opened < self._most:
            self._waiting.append(self.open())

    def take_connection(self) -> tuple[socket.socket, MoverJob] | None:
        return (self._waiting.pop(), JOB) if self._waiting else None

    def reconnect(self, error: TransferError) -> tuple[socket.socket, MoverJob]:
        return self.open(), JOB

    def _serve(self, number: int, connection: socket.socket) -> None:
        try:
            with connection:
                while head := self._head(connection):
                    ranged = re.search(r"Range: bytes=(\d+)-(\d*)", head)
                    start, end = 0, len(FILE)
                    if ranged is not None:
                        start, end = int(ranged[1]), int(ranged[2]) + 1 if ranged[2] else len(FILE)
                    self.ranges.append((start, end))
                    if ranged is None:
                        answer = f'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: {len(FILE)}\r\n\r\n'
                        connection.sendall(answer.encode() + FILE[:MIB])
                        # a network gives another connection time to prove itself; memory would not
                        self.range_answered.wait(HANG_S)
                        connection.sendall(FILE[MIB:])
                    elif not self._answer_range(number, connection, start, end):
                        return
                    if "Connection: close" in head:
                        return
        except OSError:
            return

    def _answer_range(self, number: int, connection: socket.socket, start: int, end: int) -> bool:
        try:
            return self._behave(number, connection, start, end)
        finally:
            self.range_answered.set()

    @staticmethod
    def _head(connection: socket.socket) -> str:
        head = b""
        while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
            head += data
        return head.decode()


def good(number: int, connection: socket.socket, start: int, end: int) -> bool:
    send_part(connection, start, end)
    return True


def closes(number: int, connection: socket.socket, start: int, end: int) -> bool:
    send_part(connection, start, end)
    return False


def breaks_off(number: int, connection: socket.socket, start: int, end: int) -> bool:
    send_part(connection, start, end, cut=(end - start) // 2 if number < 4 else None)
    return number >= 4


def second_is_another_file(number: int, connection: socket.socket, start: int, end: int) -> bool:
    send_part(connection, start, end, tag="one" if number != 3 else "two")
    return True


def ignores_ranges(number: int, connection: socket.socket, start: int, end: int) -> bool:
    answer = f'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: {len(FILE)}\r\n\r\n'
    connection.sendall(answer.encode() + FILE)
    return False


def is_busy(number: int, connection: socket.socket, start: int, end: int) -> bool:
    connection.sendall(b"HTTP/1.1 429 Many\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n")
    return False


@pytest.fixture(autouse=True)
def _adapts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_source, "MIN_REST_BYTES", MIB)


def receive(server: Server) -> bytes:
    """Read the file, with a connection more as soon as there is something to resume at."""
    single = ResumingSource(server.open(), JOB, server.reconnect)
    source = AdaptiveSource(single, server)
    received, buffer = bytearray(), bytearray(1 << 18)
    assert source.read_into(memoryview(buffer)[:1]) == 1
    received += buffer[:1]
    server.request_connection()
    while count := source.read_into(memoryview(buffer)):
        received += buffer[:count]
        assert source.received_bytes == len(received)
    return bytes(received)


@pytest.mark.parametrize(
    "behave", [good, closes, breaks_off, second_is_another_file, ignores_ranges, is_busy]
)
def test_the_file_is_whole_and_in_order(behave: Behaviour) -> None:
    assert receive(Server(behave, most=12)) == FILE


def test_several_connections_share_the_rest_of_the_file() -> None:
    server = Server(good)
    assert receive(server) == FILE
    parts = [part for part in server.ranges if part != (0, len(FILE))]
    assert len(parts) > 3
    assert len(set(parts)) == len(parts), "a part was requested twice"
    assert sum(end - start for start, end in parts) < len(FILE)


def test_a_server_that_refuses_leaves_the_one_connection_alone() -> None:
    for behave in (ignores_ranges, is_busy):
        server = Server(behave)
        assert receive(server) == FILE
        assert [part for part in server.ranges if part[0] == 0] == [(0, len(FILE))], "it was interrupted"


def test_another_file_behind_all_connections_is_noticed() -> None:
    def changed(number: int, connection: socket.socket, start: int, end: int) -> bool:
        send_part(connection, start, end, tag="one" if start < 8 * MIB else "two")
        return True

    with pytest.raises(TransferError) as failed:
        receive(Server(changed))
    assert failed.value.code is TransferFailure.SOURCE_CHANGED


def test_a_file_without_a_validator_has_one_connection() -> None:
    server = Server(good)
    single = ResumingSource(server.open(), evolve(JOB, checksum="0" * 64), server.reconnect)
    source = AdaptiveSource(single, server)
    single._answer._validator = None
    server.range_answered.set()  # none will be requested
    server.request_connection()
    buffer = bytearray(1 << 18)
    while source.read_into(memoryview(buffer)):
        pass
    assert server.ranges == [(0, len(FILE))]
