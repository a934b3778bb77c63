# SPDX-License-Identifier: Apache-2.0
"""A sender reads only in its workers: a store that hangs blocks one transfer and no timer of the reactor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from systemvm.ssvm.serve.body_sender import CHUNK_BYTES, STALL_TIMEOUT_S, BodySender
from systemvm.ssvm.serve.byte_ranges import ByteRange
from systemvm.ssvm.serve.response_plan import Segment

CONTENT = os.urandom(2 * CHUNK_BYTES + 17)


class FakeReactor(Clock):
    def callFromThread(self, callback: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        callback(*arguments, **named)


class FakePool:
    """Workers that run when the test says so: until then the store does not answer."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = []

    def callInThreadWithCallback(self, done: Any, operation: Any, *arguments: Any, **named: Any) -> None:
        self.waiting.append((done, operation, arguments))

    def run(self) -> None:
        done, operation, arguments = self.waiting.pop(0)
        try:
            result = operation(*arguments)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


class FakeTransport:
    def __init__(self) -> None:
        self.producer: Any = None
        self.sent = b""
        self.aborted = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.sent += data

    def abortConnection(self) -> None:
        self.aborted = True


@define
class World:
    file: int
    reactor: FakeReactor = field(factory=FakeReactor)
    pool: FakePool = field(factory=FakePool)
    transport: FakeTransport = field(factory=FakeTransport)
    ends: list[bool] = field(factory=list)

    def sender(self, *segments: Segment) -> BodySender:
        sender = BodySender(
            self.reactor,
            cast(ThreadPool, self.pool),
            self.transport,
            self.file,
            segments,
            self.ends.append,
            sendfile=False,
        )
        sender.start("the channel")
        return sender

    def drain(self) -> None:
        """Tell the sender that the transport has sent all it had."""
        self.transport.producer.resumeProducing()

    def is_file_open(self) -> bool:
        try:
            os.fstat(self.file)
        except OSError:
            return False
        return True


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "image").write_bytes(CONTENT)
    return World(os.open(tmp_path / "image", os.O_RDONLY))


def test_segments_are_sent_in_order_and_one_chunk_is_read_ahead(world: World) -> None:
    world.sender(b"<", ByteRange(1, len(CONTENT) - 1), b">")
    world.drain()
    assert world.transport.sent == b"<"
    world.drain()
    world.pool.run()
    assert len(world.transport.sent) == 1 + CHUNK_BYTES
    world.pool.run()  # the next chunk is read before the client has taken this one
    assert len(world.transport.sent) == 1 + CHUNK_BYTES
    world.drain()
    world.pool.run()
    world.drain()
    world.drain()
    assert world.transport.sent == b"<" + CONTENT[1:] + b">"
    world.drain()
    assert world.ends == [True]
    assert world.transport.producer == "the channel"
    assert not world.is_file_open()


def test_store_that_hangs_is_waited_for(world: World) -> None:
    world.sender(ByteRange(0, len(CONTENT)))
    world.drain()
    world.reactor.advance(10 * STALL_TIMEOUT_S)
    world.reactor.advance(10 * STALL_TIMEOUT_S)
    assert (world.ends, world.transport.aborted) == ([], False)
    world.pool.run()
    assert len(world.transport.sent) == CHUNK_BYTES


def test_client_that_takes_nothing_is_closed(world: World) -> None:
    world.sender(ByteRange(0, len(CONTENT)))
    world.drain()
    world.pool.run()
    world.pool.run()
    world.reactor.advance(STALL_TIMEOUT_S)
    assert (world.ends, world.transport.aborted) == ([False], True)
    assert not world.is_file_open()


def test_file_stays_open_until_the_worker_returns(world: World) -> None:
    sender = world.sender(ByteRange(0, len(CONTENT)))
    world.drain()
    sender.stopProducing()
    assert (world.ends, world.is_file_open()) == ([False], True)
    world.pool.run()
    assert not world.is_file_open()
    sender.abort()
    assert (world.ends, world.transport.aborted) == ([False], False)


def test_file_that_became_shorter_ends_the_connection(world: World) -> None:
    world.sender(ByteRange(len(CONTENT), 5))
    world.drain()
    world.pool.run()
    assert (world.ends, world.transport.aborted) == ([False], True)
