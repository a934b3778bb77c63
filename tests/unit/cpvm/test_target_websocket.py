# SPDX-License-Identifier: Apache-2.0
"""A VNC server behind a WebSocket: frames in any pieces, invalid servers, writes that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.target_websocket import WebSocketStream
from systemvm.cpvm.websocket import (
    DataFrame,
    FrameParser,
    PongFrame,
    WebSocketError,
    binary_frame,
    control_frame,
)
from systemvm.cpvm.websocket import Opcode as Op


class Server:
    """The connection below the frames: pieces to read, and how many bytes each write accepts."""

    reading_needs_write = False

    def __init__(self, *pieces: bytes, accepts: list[int] | None = None) -> None:
        self.pieces = list(pieces)
        self.accepts = accepts
        self.received = b""
        self.offered: list[bytes] = []

    def fileno(self) -> int:
        return 7

    def read_into(self, buffer: memoryview) -> int:
        if not self.pieces:
            raise BlockingIOError
        piece = self.pieces.pop(0)
        taken = piece[: len(buffer)]
        if piece[len(taken) :]:
            self.pieces.insert(0, piece[len(taken) :])
        buffer[: len(taken)] = taken
        return len(taken)

    def has_pending(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        self.offered.append(data)
        count = len(data) if self.accepts is None else self.accepts.pop(0)
        if not count:
            raise BlockingIOError
        self.received += data[:count]
        return min(count, len(data))

    def close(self) -> None:
        self.closed = True


def read_all(stream: WebSocketStream, size: int = 4096) -> tuple[bytes, bool]:
    """Return what can be read now, and whether the end was reached."""
    got = b""
    buffer = bytearray(size)
    while True:
        try:
            count = stream.read_into(memoryview(buffer))
        except BlockingIOError:
            return got, False
        if not count:
            return got, True
        got += buffer[:count]


SAMPLE = b"RFB 003.008\n" + bytes(range(256)) * 300
STREAM = (
    binary_frame(SAMPLE[:5])
    + control_frame(Op.PING, b"there?")
    + b"\x02\x02"  # a message of two fragments with a pong between them
    + SAMPLE[5:7]
    + control_frame(Op.PONG, b"late")
    + b"\x80\x00"
    + binary_frame(SAMPLE[7:207])
    + binary_frame(b"")
    + binary_frame(SAMPLE[207:])
)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 125, 126, 4096, len(STREAM)])
@pytest.mark.parametrize("size", [10, 4096, 1 << 18])
def test_payload_is_read_in_any_pieces(piece: int, size: int) -> None:
    server = Server(*(STREAM[at : at + piece] for at in range(0, len(STREAM), piece)))
    assert read_all(WebSocketStream(server), size) == (SAMPLE, False)


@given(st.lists(st.integers(1, 400), max_size=40))
def test_any_split_reads_the_same(sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(STREAM[at : at + size])
        at += size
    server = Server(*(piece for piece in [*pieces, STREAM[at:]] if piece))
    assert read_all(WebSocketStream(server)) == (SAMPLE, False)


def test_bytes_after_the_upgrade_are_read_first() -> None:
    stream = WebSocketStream(Server(STREAM[9:]), early=STREAM[:9])
    assert stream.has_pending()
    assert read_all(stream, 4) == (SAMPLE, False)
    assert not stream.has_pending()


def test_a_close_frame_is_the_end() -> None:
    stream = WebSocketStream(Server(binary_frame(b"last") + control_frame(Op.CLOSE, b"\x03\xe8") + STREAM))
    assert read_all(stream) == (b"last", True)
    assert read_all(stream) == (b"", True)


def test_a_ping_is_answered_once_and_only_the_latest_waits() -> None:
    server = Server(control_frame(Op.PING, b"1"), *(control_frame(Op.PING, b"%d" % n) for n in range(2, 9)))
    server.accepts = [0, *[0] * 20]
    stream = WebSocketStream(server)
    read_all(stream)
    server.accepts = None
    stream.write(b"key")
    events = list(FrameParser().feed(server.received))
    assert events == [PongFrame(b"1"), PongFrame(b"8"), DataFrame(b"key", is_final=True)]


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x01x",  # text
        b"\xc2\x01x",  # a reserved bit
        b"\x82\x81\0\0\0\0x",  # masked
        b"\x80\x01x",  # a continuation of nothing
        b"\x02\x01x\x82\x01y",  # a message within a message
        b"\x83\x01x",
        b"\x8b\x00",
        b"\x09\x00",  # a fragmented ping
        b"\x89\x7e\x01\x00" + bytes(256),  # a long ping
        b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_a_server_that_breaks_the_protocol_is_refused(frame: bytes) -> None:
    with pytest.raises(WebSocketError):
        read_all(WebSocketStream(Server(frame)))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    stream = WebSocketStream(Server(noise) if noise else Server())
    try:
        got, _ = read_all(stream)
    except WebSocketError:
        return
    assert len(got) <= len(noise)


@pytest.mark.parametrize("accepted", [1, 2, 3, 5, 1000])
def test_a_frame_is_completed_before_the_next(accepted: int) -> None:
    server = Server()
    stream = WebSocketStream(server)
    data = bytes(range(256)) * 200
    left = data
    while left:
        server.accepts = [accepted, 0]
        try:
            left = left[stream.write(left) :]
        except BlockingIOError:
            # the caller offers the same bytes again, and more behind them
            assert server.offered[-1][:1] != b""
    events = list(FrameParser().feed(server.received))
    assert b"".join(event.payload for event in events if isinstance(event, DataFrame)) == data


def test_a_refused_write_is_repeated_with_the_same_bytes() -> None:
    """OpenSSL does not check what it is given the second time."""
    server = Server(accepts=[0, 0])
    stream = WebSocketStream(server)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            stream.write(b"secret")
    assert server.offered[0] == server.offered[1]
    server.accepts = None
    assert stream.write(b"secret and more") == len(b"secret")
    assert server.offered[2] == server.offered[0]
