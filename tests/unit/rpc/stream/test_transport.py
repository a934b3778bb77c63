# SPDX-License-Identifier: Apache-2.0
"""The transport when the other end does not read: bounded memory, order and disconnect."""

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


class Connection:
    """A protocol on an in-memory transport."""

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
def connection() -> Connection:
    return Connection()


def test_frames_are_written_at_once_while_there_is_room(connection: Connection) -> None:
    connection.protocol.send(b"1\n")
    connection.protocol.send(b"2\n")
    assert connection.transport.value() == b"1\n2\n"


def test_stalled_frames_keep_their_order_and_newer_ones_replace_older_ones(connection: Connection) -> None:
    connection.protocol.pauseProducing()
    connection.protocol.send(b"old\n", replaces="job 1", may_drop=True)
    connection.protocol.send(b"call\n")
    connection.protocol.send(b"other\n", replaces="job 2", may_drop=True)
    connection.protocol.send(b"new\n", replaces="job 1", may_drop=True)
    assert connection.transport.value() == b""
    connection.protocol.resumeProducing()
    assert connection.transport.value() == b"call\nother\nnew\n"


def test_notifications_are_dropped_past_the_limit_and_responses_pause_reading(connection: Connection) -> None:
    connection.protocol.pauseProducing()
    megabyte = b"x" * (PAUSE_BYTES // 2)
    for _ in range(9):
        connection.protocol.send(megabyte, may_drop=True)
    assert connection.transport.producerState == "producing"
    connection.protocol.send(megabyte)
    assert connection.transport.producerState == "paused"
    connection.protocol.resumeProducing()
    assert len(connection.transport.value()) == 3 * len(megabyte)
    assert connection.transport.producerState == "producing"


def test_a_transport_that_fills_again_queues_the_rest(connection: Connection) -> None:
    written: list[bytes] = []

    def write(data: bytes) -> None:
        written.append(data)
        connection.protocol.pauseProducing()

    connection.transport.write = write
    connection.protocol.send(b"1")
    connection.protocol.send(b"2")
    connection.protocol.send(b"3")
    assert written == [b"1"]
    connection.protocol.resumeProducing()
    assert written == [b"1", b"2"]


def test_a_peer_that_does_not_read_is_disconnected(connection: Connection) -> None:
    connection.protocol.pauseProducing()
    connection.clock.advance(STALL_S - 1)
    connection.protocol.resumeProducing()
    connection.clock.advance(STALL_S)
    assert not connection.transport.disconnected
    connection.protocol.pauseProducing()
    connection.clock.advance(STALL_S)
    assert connection.transport.disconnected


def test_close_flushes_written_frames_until_a_deadline(connection: Connection) -> None:
    assert connection.protocol.peer is not None
    connection.protocol.peer.close("over")
    assert connection.transport.disconnecting and connection.transport.producer is None
    connection.protocol.send(b"late\n")
    assert connection.transport.value() == b""
    connection.clock.advance(CLOSE_TIMEOUT_S)
    assert connection.transport.disconnected


def test_bytes_before_authentication_are_not_parsed() -> None:
    seen: list[Peer] = []
    protocol = StreamProtocol(Clock(), MethodTable("t", "1"), seen.append, lambda peer, why: None)
    transport: Any = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n')
    assert transport.value() == b"" and seen == []


def test_a_lost_connection_is_reported_once_and_leaves_no_timer(connection: Connection) -> None:
    connection.protocol.pauseProducing()
    connection.protocol.connectionLost(Failure(ConnectionDone()))
    ((peer, why),) = connection.lost
    assert peer is connection.protocol.peer and "cleanly" in why
    assert connection.clock.getDelayedCalls() == []


def test_openssl_errors_become_text() -> None:
    errors = [("SSL routines", "", "certificate verify failed")]
    assert describe_failure(Failure(RuntimeError(errors))) == "TLS: certificate verify failed"
    assert describe_failure(Failure(OSError("no route"))) == "no route"
