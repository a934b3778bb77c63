# SPDX-License-Identifier: Apache-2.0
"""Renewal of the certificate, and its retries."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.guest.renewal import CHECK_INTERVAL_S, RETRY_FIRST_S, RETRY_LAST_S, Renewal
from systemvm.rpc.core.errors import REFUSED, RpcError
from systemvm.rpc.core.method import Call, Caller
from systemvm.service.backoff import Backoff


class FakeIdentity:
    """An identity that is due until renewed; `fails_with` is raised."""

    def __init__(self) -> None:
        self.is_due = True
        self.fails_with: Exception | None = None
        self.peers: list[Any] = []

    def due(self) -> bool:
        return self.is_due

    async def renew(self, peer: Any) -> None:
        self.peers.append(peer)
        if self.fails_with is not None:
            raise self.fails_with
        self.is_due = False


class Harness:
    def __init__(self) -> None:
        self.clock = Clock()
        self.identity = FakeIdentity()
        self.peer: Any = "the daemon"
        self.problems: list[str] = []
        # without jitter: the longest wait of each range
        backoff = Backoff(first_s=RETRY_FIRST_S, last_s=RETRY_LAST_S, uniform=lambda low, high: high)
        self.renewal = Renewal(self.clock, self.identity, lambda: self.peer, self.report, backoff)
        self.renewal.start()

    def report(self) -> None:
        self.problems.append(self.renewal.problem)

    def waits_s(self) -> list[float]:
        """Return the waits of all timers but the hourly check."""
        calls = sorted(call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls())
        return calls[:-1]


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_nothing_is_requested_before_it_is_due_or_without_a_connection(harness: Harness) -> None:
    harness.identity.is_due = False
    harness.renewal.check()
    harness.identity.is_due, harness.peer = True, None
    harness.clock.advance(CHECK_INTERVAL_S)
    assert harness.identity.peers == []
    harness.peer = "the daemon"
    harness.clock.advance(CHECK_INTERVAL_S)
    assert harness.identity.peers == ["the daemon"]
    assert harness.problems == [""]


@pytest.mark.parametrize("error", [RpcError(REFUSED, "not for this key"), ValueError("not for this key")])
def test_a_failure_is_reported_and_retried_with_backoff(harness: Harness, error: Exception) -> None:
    harness.identity.fails_with = error
    harness.renewal.check()
    assert harness.problems == ["cannot renew the certificate: not for this key; next attempt in 60 s"]
    waits = []
    for _ in range(8):
        [wait_s] = harness.waits_s()
        waits.append(wait_s)
        before = len(harness.identity.peers)
        harness.clock.advance(wait_s)
        assert len(harness.identity.peers) > before
    assert waits[:5] == [60, 120, 240, 480, 960]
    assert max(waits) <= RETRY_LAST_S
    harness.identity.fails_with = None
    harness.renewal.check()
    assert harness.renewal.problem == harness.problems[-1] == ""
    assert harness.waits_s() == []
    harness.identity.is_due, harness.identity.fails_with = True, error
    harness.renewal.check()
    assert harness.waits_s() == [60], "the backoff was reset"


def test_a_renewal_on_request_clears_the_problem(harness: Harness) -> None:
    harness.identity.fails_with = ValueError("it is for another key")
    harness.renewal.check()
    peer: Any = object()
    call = Call(Caller("host", "management"), "r", peer)
    refused: list[Any] = []
    Deferred.fromCoroutine(harness.renewal.on_request(call, None)).addErrback(refused.append)
    assert refused[0].value.reason == "not-renewed"
    assert harness.renewal.problem, "it is still retried"
    harness.identity.fails_with, harness.identity.is_due = None, False
    Deferred.fromCoroutine(harness.renewal.on_request(call, None))
    assert harness.identity.peers[-1] is peer
    assert harness.renewal.problem == ""
    assert harness.waits_s() == []


def test_stop_cancels_all_timers(harness: Harness) -> None:
    harness.identity.fails_with = ValueError("no")
    harness.renewal.check()
    harness.renewal.stop()
    assert harness.clock.getDelayedCalls() == []
