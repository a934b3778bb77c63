# SPDX-License-Identifier: Apache-2.0
"""Retries of calls to a store: only transient errors are retried."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import BUSY, DEADLINE, INTERNAL, NOT_CONNECTED, RpcError
from systemvm.ssvm.store_retry import LAST_S, is_transient, retry_transient_errors


class FakeStore:
    """A store that returns or raises the given answers one after another."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.called_at_s: list[float] = []
        self.clock = Clock()
        self.wanted = True
        self.waits: list[RpcError] = []

    async def call(self) -> object:
        self.called_at_s.append(self.clock.seconds())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def begin(self) -> list[Any]:
        """Start the call and return a list that receives its outcome."""
        found: list[Any] = []
        call = retry_transient_errors(
            self.clock, self.call, what="a call", is_wanted=lambda: self.wanted, on_wait=self.waits.append
        )
        self.pending = Deferred.fromCoroutine(call).addBoth(found.append)
        return found


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (RpcError(DEADLINE, "late"), True),
        (RpcError(BUSY, "64 calls wait"), True),
        (RpcError.refused("busy", "the queue is full"), True),
        (RpcError.refused("store_hangs", "no answer"), True),
        (RpcError.refused("store_unreachable", "no connection"), True),
        (RpcError.refused("store_refuses", "permission denied"), False),
        (RpcError.refused("store_full", "no space"), False),
        (RpcError(NOT_CONNECTED, "no such socket"), False),
        (RpcError(INTERNAL, "it broke down"), False),
    ],
)
def test_transient_errors_are_recognized(error: RpcError, transient: bool) -> None:
    assert is_transient(error) is transient


def test_the_waits_grow_until_a_success() -> None:
    late = RpcError(DEADLINE, "late")
    store = FakeStore(*[late] * 12, "made")
    found = store.begin()
    while not found:
        store.clock.advance(0.5)
    assert found == ["made"]
    gaps_s = [after - before for before, after in zip(store.called_at_s, store.called_at_s[1:], strict=False)]
    assert gaps_s[0] <= 2.5
    assert max(gaps_s) > LAST_S / 2 - 1
    assert max(gaps_s) <= LAST_S + 0.5
    assert store.waits == [late] * 12


def test_a_refusal_is_raised_at_once() -> None:
    store = FakeStore(RpcError(DEADLINE, "late"), RpcError.refused("store_full", "no space"))
    found = store.begin()
    store.clock.advance(LAST_S)
    assert found[0].value.reason == "store_full"


def test_an_unwanted_call_is_not_repeated() -> None:
    store = FakeStore(RpcError(DEADLINE, "late"), "unwanted")
    found = store.begin()
    store.wanted = False
    store.clock.advance(LAST_S)
    assert found[0].value.code == DEADLINE
    assert store.answers == ["unwanted"]


def test_cancelling_ends_the_wait() -> None:
    store = FakeStore(RpcError(DEADLINE, "late"))
    found = store.begin()
    store.pending.cancel()
    assert isinstance(found[0], Failure)
    assert found[0].check(CancelledError)
    assert store.clock.getDelayedCalls() == []
