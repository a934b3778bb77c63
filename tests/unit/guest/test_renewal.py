# SPDX-License-Identifier: Apache-2.0
"""When a certificate is renewed, and how often it is tried when that fails."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.guest.renewal import CHECK_INTERVAL_S, RETRY_FIRST_S, RETRY_LAST_S, Renewal
from systemvm.rpc.core.errors import REFUSED, RpcError
from systemvm.rpc.core.method import Call, Caller
from systemvm.service.backoff import Backoff


class Identity:
    """Due until it was renewed; fails as long as `fails_with` says so."""

    def __init__(self) -> None:
        self.is_due = True
        self.fails_with: Exception | None = None
        self.asked: list[Any] = []

    def due(self) -> bool:
        return self.is_due

    async def renew(self, peer: Any) -> None:
        self.asked.append(peer)
        if self.fails_with is not None:
            raise self.fails_with
        self.is_due = False


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.identity = Identity()
        self.peer: Any = "the daemon"
        self.told: list[str] = []
        # the longest of each range of waits
        backoff = Backoff(first_s=RETRY_FIRST_S, last_s=RETRY_LAST_S, uniform=lambda low, high: high)
        self.renewal = Renewal(self.clock, self.identity, lambda: self.peer, self.tell, backoff)
        self.renewal.start()

    def tell(self) -> None:
        self.told.append(self.renewal.problem)

    def waits_s(self) -> list[float]:
        """Of what is scheduled beside the hourly look."""
        calls = sorted(call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls())
        return calls[:-1]


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_requested_before_it_is_due_or_without_a_connection(world: World) -> None:
    world.identity.is_due = False
    world.renewal.check()
    world.identity.is_due, world.peer = True, None
    world.clock.advance(CHECK_INTERVAL_S)
    assert world.identity.asked == []
    world.peer = "the daemon"
    world.clock.advance(CHECK_INTERVAL_S)
    assert world.identity.asked == ["the daemon"]
    assert world.told == [""]


@pytest.mark.parametrize("error", [RpcError(REFUSED, "not for this key"), ValueError("not for this key")])
def test_a_failure_is_reported_and_retried_with_backoff(world: World, error: Exception) -> None:
    world.identity.fails_with = error
    world.renewal.check()
    assert world.told == ["cannot renew the certificate: not for this key; next attempt in 60 s"]
    waits = []
    for _ in range(8):
        [wait_s] = world.waits_s()
        waits.append(wait_s)
        before = len(world.identity.asked)
        world.clock.advance(wait_s)
        assert len(world.identity.asked) > before
    assert waits[:5] == [60, 120, 240, 480, 960]
    assert max(waits) <= RETRY_LAST_S
    world.identity.fails_with = None
    world.renewal.check()
    assert world.renewal.problem == world.told[-1] == ""
    assert world.waits_s() == []
    world.identity.is_due, world.identity.fails_with = True, error
    world.renewal.check()
    assert world.waits_s() == [60], "it begins with the shortest wait again"


def test_a_renewal_on_request_clears_the_problem(world: World) -> None:
    world.identity.fails_with = ValueError("it is for another key")
    world.renewal.check()
    peer: Any = object()
    call = Call(Caller("host", "management"), "r", peer)
    refused: list[Any] = []
    Deferred.fromCoroutine(world.renewal.on_request(call, None)).addErrback(refused.append)
    assert refused[0].value.reason == "not-renewed"
    assert world.renewal.problem, "it is still tried again"
    world.identity.fails_with, world.identity.is_due = None, False
    Deferred.fromCoroutine(world.renewal.on_request(call, None))
    assert world.identity.asked[-1] is peer
    assert world.renewal.problem == ""
    assert world.waits_s() == []


def test_a_stop_cancels_everything(world: World) -> None:
    world.identity.fails_with = ValueError("no")
    world.renewal.check()
    world.renewal.stop()
    assert world.clock.getDelayedCalls() == []
