# SPDX-License-Identifier: Apache-2.0
"""The agents' reactor: it behaves as Twisted's own, without a logging context around every event."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from systemvm.service.direct_epoll import DirectEpollReactor


class Reader(FileDescriptor):
    """Reads from a socket; `act` is done at each event."""

    def __init__(self, reactor: Any, end: socket.socket, act: Any) -> None:
        super().__init__(reactor)
        self._end = end
        self._act = act
        self.lost: list[Any] = []

    def fileno(self) -> int:
        return self._end.fileno()

    def doRead(self) -> Any:
        return self._act()

    def connectionLost(self, reason: Any) -> None:
        self.lost.append(reason.value)


@implementer(ILogObserver)
class Observed(list[Any]):
    def __call__(self, event: Any) -> None:
        self.append(event)


@pytest.fixture
def reactor() -> Iterator[Any]:
    made: Any = DirectEpollReactor()
    made.removeReader(made.waker) if made.waker is not None else None
    yield made
    for descriptor in list(made._internalReaders):
        descriptor.connectionLost(None)
    made._poller.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with_both = socket.socketpair()
    yield with_both
    for end in with_both:
        end.close()


def test_what_is_readable_is_read(reactor: Any, ends: tuple[socket.socket, socket.socket]) -> None:
    seen: list[bytes] = []
    reactor.addReader(Reader(reactor, ends[0], lambda: seen.append(ends[0].recv(16))))
    reactor.doIteration(0)
    assert seen == []
    ends[1].send(b"key")
    reactor.doIteration(None)
    assert seen == [b"key"]


def test_an_exception_is_logged_and_closes_only_its_descriptor(
    reactor: Any, ends: tuple[socket.socket, socket.socket]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    reader = Reader(reactor, ends[0], fail)
    reactor.addReader(reader)
    ends[1].send(b"key")
    observed = Observed()
    globalLogPublisher.addObserver(observed)
    try:
        reactor.doIteration(0)
    finally:
        globalLogPublisher.removeObserver(observed)
    assert [event["log_failure"].type for event in observed] == [ZeroDivisionError]
    assert [type(reason) for reason in reader.lost] == [ZeroDivisionError]
    assert reactor.getReaders() == []


def test_a_descriptor_that_an_earlier_event_closed_is_left_alone(reactor: Any) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    readers: list[Reader] = []
    calls: list[int] = []

    def close_all() -> None:
        calls.append(1)
        for reader in readers:
            reactor.removeReader(reader)

    readers += [Reader(reactor, near, close_all) for near, _ in pairs]
    for reader in readers:
        reactor.addReader(reader)
    for _, far in pairs:
        far.send(b"key")
    reactor.doIteration(0)
    assert calls == [1]
    for end in (end for pair in pairs for end in pair):
        end.close()


def test_the_end_of_a_connection_is_reported(reactor: Any, ends: tuple[socket.socket, socket.socket]) -> None:
    reader = Reader(reactor, ends[0], lambda: ConnectionResetError() if not ends[0].recv(16) else None)
    reactor.addReader(reader)
    ends[1].close()
    reactor.doIteration(0)
    assert len(reader.lost) == 1
