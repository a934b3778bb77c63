# SPDX-License-Identifier: Apache-2.0
"""Calls to the daemon: they wait for a connection and are repeated until answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from systemvm.guest.context import AgentContext
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.errors import DEADLINE, NOT_CONNECTED, REFUSED, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.wire.role import Role


class FakePeer:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.notifications: list[tuple[str, Any]] = []

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def notify(self, method: str, params: Any = None, *, replaces: str | None = None) -> None:
        self.notifications.append((method, params))


class Harness:
    def __init__(self) -> None:
        self.clock = Clock()
        self.peer: Any = None
        self.context = AgentContext(
            reactor=self.clock,
            paths=GuestPaths(Path("/nonexistent")),
            name="s-1-VM",
            role=Role.SSVM,
            boot={},
            methods=MethodTable("t", "0"),
            sockets={},
            find_peer=lambda: self.peer,
        )

    def call(self) -> tuple[Deferred[Any], list[Any]]:
        results: list[Any] = []
        waiting = Deferred.fromCoroutine(self.context.call_daemon("m", {}))
        waiting.addBoth(results.append)
        return waiting, results


def test_a_call_waits_for_the_connection() -> None:
    harness = Harness()
    _, results = harness.call()
    assert results == []
    harness.peer = FakePeer("answer")
    harness.context.connected()
    assert results == ["answer"]


@pytest.mark.parametrize("code", [NOT_CONNECTED, DEADLINE])
def test_a_call_is_repeated_until_answered(code: int) -> None:
    harness = Harness()
    harness.peer = FakePeer(RpcError(code, "no answer"), "answer")
    _, results = harness.call()
    assert results == []
    harness.clock.advance(1)
    assert results == ["answer"]


def test_a_refusal_is_an_answer() -> None:
    harness = Harness()
    harness.peer = FakePeer(RpcError(REFUSED, "no"))
    _, results = harness.call()
    assert results[0].value.code == REFUSED


def test_a_waiting_call_can_be_cancelled() -> None:
    harness = Harness()
    waiting, results = harness.call()
    waiting.cancel()
    assert results[0].check(CancelledError)
    harness.peer = FakePeer()
    harness.context.connected()


def test_notifications_need_no_daemon() -> None:
    harness = Harness()
    harness.context.notify_daemon("n", 1)
    harness.peer = FakePeer()
    harness.context.notify_daemon("n", 2)
    assert harness.peer.notifications == [("n", 2)]
