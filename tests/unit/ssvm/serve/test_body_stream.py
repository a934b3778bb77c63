# SPDX-License-Identifier: Apache-2.0
"""The body of a request: read by a coroutine, with the client stopped while nobody reads."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.ssvm.serve.body_stream import LINGER_S, BodyStream, ClientGoneError


class Connection:
    def __init__(self) -> None:
        self.clock = Clock()
        self.calls: list[str] = []
        self.body = BodyStream(self.clock, lambda: self.calls.append("pause"), self._resume)

    def _resume(self) -> None:
        self.calls.append("resume")

    def read(self) -> list[Any]:
        results: list[Any] = []
        Deferred.fromCoroutine(self.body.read()).addBoth(results.append)
        return results


def test_the_client_is_stopped_while_nobody_reads() -> None:
    connection = Connection()
    connection.body.received(b"one")
    assert connection.calls == ["pause"]
    connection.body.received(b"two")
    assert connection.read() == [b"onetwo"]
    waiting = connection.read()
    assert connection.calls[-1] == "resume"
    connection.body.received(b"three")
    assert waiting == [b"three"]
    connection.body.completed()
    assert connection.read() == [b""]


@pytest.mark.parametrize("how", ["lost", "too slow"])
def test_a_body_without_its_end_is_no_body(how: str) -> None:
    connection = Connection()
    connection.body.received(b"one")
    waiting = [connection.read(), connection.read()]
    if how == "lost":
        connection.body.lost()
    else:
        connection.body.set_deadline(30.0)
        connection.clock.advance(30.0)
    assert waiting[0] == [b"one"]
    assert waiting[1][0].check(ClientGoneError)
    assert connection.read()[0].check(ClientGoneError)
    assert connection.clock.getDelayedCalls() == []


def test_a_deadline_can_be_removed() -> None:
    connection = Connection()
    waiting = connection.read()
    connection.body.set_deadline(30.0)
    connection.body.set_deadline(None)
    connection.clock.advance(1000.0)
    assert waiting == []


@pytest.mark.parametrize("end", ["complete", "late"])
def test_the_rest_is_discarded_for_a_while(end: str) -> None:
    connection, ended = Connection(), []
    connection.body.received(b"one")
    connection.body.linger(lambda: ended.append(True))
    assert connection.calls[-1] == "resume"
    connection.body.received(b"two")
    assert connection.calls[-1] == "resume", "it is not stopped again"
    assert ended == []
    if end == "complete":
        connection.body.completed()
    else:
        connection.clock.advance(LINGER_S)
    assert ended == [True]
    assert connection.clock.getDelayedCalls() == []
