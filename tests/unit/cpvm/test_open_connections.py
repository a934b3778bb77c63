# SPDX-License-Identifier: Apache-2.0
"""The open connections of browsers: counts by address, and the wait until all are gone."""

from __future__ import annotations

from typing import cast

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.cpvm.console_connection import ConsoleConnection
from systemvm.cpvm.open_connections import OpenConnections


@define(eq=False)
class FakeConnection:
    client_address: str


def connection(address: str = "203.0.113.7") -> ConsoleConnection:
    return cast(ConsoleConnection, FakeConnection(address))


def test_connections_are_counted_by_address() -> None:
    opened = OpenConnections()
    first, second = connection(), connection()
    for each in (first, second, connection("203.0.113.8")):
        opened.add(each)
    assert (opened.of_address("203.0.113.7"), opened.of_address("203.0.113.9")) == (2, 0)
    opened.remove(first)
    opened.remove(first)
    assert opened.of_address("203.0.113.7") == 1
    opened.remove(second)
    assert opened.of_address("203.0.113.7") == 0
    assert [each.client_address for each in opened] == ["203.0.113.8"]


def test_all_can_be_removed_while_they_are_iterated_over() -> None:
    opened = OpenConnections()
    for _ in range(3):
        opened.add(connection())
    for each in opened:
        opened.remove(each)
    assert not list(opened)


def test_the_wait_ends_with_the_last_connection() -> None:
    opened, clock, one, other = OpenConnections(), Clock(), connection(), connection()
    opened.add(one)
    opened.add(other)
    waiting = Deferred.fromCoroutine(opened.all_gone(clock, 3.0))
    opened.remove(one)
    assert not waiting.called
    opened.remove(other)
    assert waiting.called
    assert not clock.getDelayedCalls()


def test_the_wait_ends_at_its_deadline() -> None:
    opened, clock, one = OpenConnections(), Clock(), connection()
    opened.add(one)
    waiting = Deferred.fromCoroutine(opened.all_gone(clock, 3.0))
    clock.advance(3.0)
    assert waiting.called
    opened.remove(one)  # later than the deadline


def test_without_connections_nothing_is_waited_for() -> None:
    waiting = Deferred.fromCoroutine(OpenConnections().all_gone(Clock(), 3.0))
    assert waiting.called
