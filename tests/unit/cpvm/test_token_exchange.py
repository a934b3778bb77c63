# SPDX-License-Identifier: Apache-2.0
"""A page whose answer was lost gets its session by asking again; nobody else does."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.cpvm.grants import Grants
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.token_exchange import KEPT_S, MAX_KEPT, Exchanged, TokenExchange
from systemvm.wire.console import ConsoleAuthorize, ConsoleSession

PAGE = "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d"
REQUEST = ConsoleAuthorize("token", "198.51.100.7", "request-1", "extra")


class Harness:
    """The daemon accepts each token once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.grants = Grants(self.clock.seconds, lambda *_: None)
        self.tokens = TokenExchange(self.spend, self.grants)
        self.spent: list[str] = []
        self.delays: list[Deferred[None]] = []

    async def spend(self, request: ConsoleAuthorize) -> ConsoleSession:
        if request.token in self.spent:
            raise ConsoleRefusedError(BrowserRefusal.TOKEN_USED)
        self.spent.append(request.token)
        if self.delays:
            await self.delays.pop()
        return ConsoleSession(f"session-of-{request.token}", "vm", "web", 3600)

    def ask(self, request: ConsoleAuthorize = REQUEST, page: str = PAGE) -> Exchanged:
        return result_of(self.tokens.exchange(request, page))

    def refusal(self, request: ConsoleAuthorize = REQUEST, page: str = PAGE) -> BrowserRefusal:
        with pytest.raises(ConsoleRefusedError) as refused:
            self.ask(request, page)
        return refused.value.refusal


def result_of(coroutine: Coroutine[Any, Any, Exchanged]) -> Exchanged:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    found: Exchanged = result
    return found


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_the_same_page_gets_the_same_session_again(harness: Harness) -> None:
    first = harness.ask()
    assert harness.ask(evolve(REQUEST, request_id="request-2")) == first
    assert harness.spent == ["token"]
    session, _ = harness.grants.claim(first.session.session_id, first.secret, REQUEST.client_address)
    assert session == first.session


def test_a_repeated_request_joins_the_one_that_runs(harness: Harness) -> None:
    delay: Deferred[None] = Deferred()
    harness.delays.append(delay)
    results: list[Exchanged] = []
    for _ in range(2):
        Deferred.fromCoroutine(harness.tokens.exchange(REQUEST, PAGE)).addCallback(results.append)
    delay.callback(None)
    assert len(results) == 2
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("request_", "page"),
    [
        (REQUEST, "another page"),
        (REQUEST, ""),
        (evolve(REQUEST, extra="another"), PAGE),
        (evolve(REQUEST, client_address="198.51.100.8"), PAGE),
    ],
)
def test_whoever_else_has_the_link_is_refused(
    harness: Harness, request_: ConsoleAuthorize, page: str
) -> None:
    harness.ask()
    assert harness.refusal(request_, page) is BrowserRefusal.TOKEN_USED


def test_a_client_without_a_number_cannot_ask_again(harness: Harness) -> None:
    harness.ask(page="")
    assert harness.refusal(page="") is BrowserRefusal.TOKEN_USED


def test_nothing_is_answered_again_once_the_browser_has_connected(harness: Harness) -> None:
    first = harness.ask()
    session_id = first.session.session_id
    harness.grants.claim(session_id, first.secret, REQUEST.client_address)
    harness.grants.connected(session_id)
    assert harness.refusal() is BrowserRefusal.TOKEN_USED
    harness.grants.confirmed(session_id)
    harness.grants.disconnected(session_id, None, "left")
    assert harness.refusal() is BrowserRefusal.TOKEN_USED


def test_nothing_is_answered_again_after_a_while_or_after_many_others(harness: Harness) -> None:
    harness.ask()
    harness.clock.advance(KEPT_S + 1)
    assert harness.refusal() is BrowserRefusal.TOKEN_USED
    harness.grants.limits = evolve(harness.grants.limits, max_sessions=2 * MAX_KEPT)
    for number in range(MAX_KEPT + 2):
        harness.ask(evolve(REQUEST, token=f"token-{number}"))
    assert harness.refusal(evolve(REQUEST, token="token-0")) is BrowserRefusal.TOKEN_USED


def test_a_refusal_is_not_kept(harness: Harness) -> None:
    harness.spent.append("token")
    assert harness.refusal() is BrowserRefusal.TOKEN_USED
    harness.spent.clear()
    assert harness.ask().session.session_id == "session-of-token"
