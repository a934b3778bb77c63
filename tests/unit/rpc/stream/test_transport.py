# SPDX-License-Identifier: Apache-2.0
"""Carrying frames when the other end does not read: memory stays bounded, order is kept, and it ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.transport import (
    CLOSE_TIMEOUT_S,
    PAUSE_BYTES,
    STALL_S,
    StreamProtocol,
    describe_failure,
)


class Line:
    """A protocol on a transport that never sends anything by itself."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lost: list[tuple[Peer | None, str]] = []
        self.protocol = StreamProtocol(
            self.clock,
            MethodTable("t", "1"),
            lambda peer: None,
            lambda peer, why: self.lost.append((peer, why)),
        )
        self.transport: Any = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.protocol.start_peer(Caller("s-1-VM", "ssvm"))


@pytest.fixture
def line() -> Line:
    return Line()


def test_frames_go_straight_out_while_there_is_room(line: Line) -> None:
    line.protocol.send(b"1\n")
    line.protocol.send(b"2\n")
    assert line.transport.value() == b"1\n2\n"


def test_stalled_frames_keep_their_order_and_newer_ones_replace_older_ones(line: Line) -> None:
    line.protocol.pauseProducing()
    line.protocol.send(b"old\n", replaces="job 1", may_drop=True)
    line.protocol.send(b"call\n")
    line.protocol.send(b"other\n", replaces="job 2", may_drop=True)
    line.protocol.send(b"new\n", replaces="job 1", may_drop=True)
    assert line.transport.value() == b""
    line.protocol.resumeProducing()
    assert line.transport.value() == b"call\nother\nnew\n"


def test_notifications_are_dropped_past_the_limit_and_answers_pause_reading(line: Line) -> None:
    line.protocol.pauseProducing()
    megabyte = b"x" * (PAUSE_BYTES // 2)
    for _ in range(9):
        line.protocol.send(megabyte, may_drop=True)
    assert line.transport.producerState == "producing"
    line.protocol.send(megabyte)
    assert line.transport.producerState == "paused"
    line.protocol.resumeProducing()
    assert len(line.transport.value()) == 3 * len(megabyte)
    assert line.transport.producerState == "producing"


def test_a_transport_that_fills_again_keeps_the_rest_waiting(line: Line) -> None:
    written: list[bytes] = []

    def write(data: bytes) -> None:
        written.append(data)
        line.protocol.pauseProducing()

    line.transport.write = write
    line.protocol.send(b"1")
    line.protocol.send(b"2")
    line.protocol.send(b"3")
    assert written == [b"1"]
    line.protocol.resumeProducing()
    assert written == [b"1", b"2"]


def test_an_end_that_does_not_read_is_disconnected(line: Line) -> None:
    line.protocol.pauseProducing()
    line.clock.advance(STALL_S - 1)
    line.protocol.resumeProducing()
    line.clock.advance(STALL_S)
    assert not line.transport.disconnected
    line.protocol.pauseProducing()
    line.clock.advance(STALL_S)
    assert line.transport.disconnected


def test_close_sends_what_was_written_for_a_limited_time(line: Line) -> None:
    assert line.protocol.peer is not None
    line.protocol.peer.close("over")
    assert line.transport.disconnecting and line.transport.producer is None
    line.protocol.send(b"late\n")
    assert line.transport.value() == b""
    line.clock.advance(CLOSE_TIMEOUT_S)
    assert line.transport.disconnected


def test_bytes_before_the_other_end_is_known_are_not_parsed() -> None:
    seen: list[Peer] = []
    protocol = StreamProtocol(Clock(), MethodTable("t", "1"), seen.append, lambda peer, why: None)
    transport: Any = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n')
    assert transport.value() == b"" and seen == []


def test_a_lost_connection_is_reported_once_and_leaves_no_timer(line: Line) -> None:
    line.protocol.pauseProducing()
    line.protocol.connectionLost(Failure(ConnectionDone()))
    ((peer, why),) = line.lost
    assert peer is line.protocol.peer and "cleanly" in why
    assert line.clock.getDelayedCalls() == []


def test_openssl_errors_become_text() -> None:
    errors = [("SSL routines", "", "certificate verify failed")]
    assert describe_failure(Failure(RuntimeError(errors))) == "TLS: certificate verify failed"
    assert describe_failure(Failure(OSError("no route"))) == "no route"
