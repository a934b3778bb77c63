# SPDX-License-Identifier: Apache-2.0
"""Authorization of console connections by the daemon."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from systemvm.cpvm.management_client import ManagementClient
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.rpc.core.errors import BUSY, DEADLINE, FORBIDDEN, INTERNAL, NOT_CONNECTED, REFUSED, RpcError
from systemvm.rpc.core.peer import Peer
from systemvm.wire.console import ConsoleAuthorize, ConsoleSession, ConsoleTarget, ConsoleTargetRequest

SESSION = ConsoleSession("s", "vm", "web", 60)


class FakePeer:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[str, Any]] = []

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        self.calls.append((method, params))
        assert options["deadline_s"] <= 10
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def client_of(peer: FakePeer | None) -> ManagementClient:
    return ManagementClient(lambda: cast(Peer, peer) if peer is not None else None)


def outcome(coroutine: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    return results[0]


def authorize(peer: FakePeer | None, token: str = "t0ken") -> Any:
    return outcome(client_of(peer).authorize(ConsoleAuthorize(token, "203.0.113.7", "r")))


def refusal(result: Any) -> BrowserRefusal:
    assert isinstance(result.value, ConsoleRefusedError)
    return result.value.refusal


def test_an_authorized_token_returns_its_session() -> None:
    peer = FakePeer(SESSION)
    assert authorize(peer) == SESSION
    assert [method for method, _ in peer.calls] == ["console.authorize"]


def test_a_target_is_returned_without_its_password_in_logs() -> None:
    target = ConsoleTarget("10.11.0.1", 5901, "12345678")
    result = outcome(client_of(FakePeer(target)).target(ConsoleTargetRequest("s", "r")))
    assert result == target
    assert "12345678" not in repr(target)


def test_forbidden_with_a_reason_is_final() -> None:
    """The token or the session belongs to another CPVM."""
    unknown = RpcError(FORBIDDEN, "not yours", {"reason": "token_unknown"})
    assert refusal(authorize(FakePeer(unknown))) is BrowserRefusal.TOKEN_UNKNOWN
    ended = RpcError(FORBIDDEN, "not yours", {"reason": "session_ended"})
    request = client_of(FakePeer(ended)).target(ConsoleTargetRequest("s", "r"))
    assert refusal(outcome(request)) is BrowserRefusal.SESSION_ENDED


def test_without_a_connection_everything_is_refused() -> None:
    assert refusal(authorize(None)) is BrowserRefusal.DAEMON_AWAY
    assert (
        refusal(outcome(client_of(None).target(ConsoleTargetRequest("s", "r")))) is BrowserRefusal.DAEMON_AWAY
    )


@pytest.mark.parametrize("code", [NOT_CONNECTED, DEADLINE, BUSY, INTERNAL, FORBIDDEN])
def test_every_rpc_failure_refuses(code: int) -> None:
    assert refusal(authorize(FakePeer(RpcError(code, "no")))) is BrowserRefusal.DAEMON_AWAY


@pytest.mark.parametrize("data", [{"reason": "token_used"}, {"reason": "token_used", "hint": "x"}])
def test_a_refusal_has_the_daemons_reason(data: Any) -> None:
    assert refusal(authorize(FakePeer(RpcError(REFUSED, "no", data)))) is BrowserRefusal.TOKEN_USED


@pytest.mark.parametrize("data", [None, "x", {}, {"reason": 3}, {"reason": "new"}])
def test_a_refusal_without_a_known_reason_is_token_unknown(data: Any) -> None:
    assert refusal(authorize(FakePeer(RpcError(REFUSED, "no", data)))) is BrowserRefusal.TOKEN_UNKNOWN


@pytest.mark.parametrize("answer", [None, {}, "yes", True])
def test_an_answer_of_another_shape_refuses(answer: Any) -> None:
    assert refusal(authorize(FakePeer(answer))) is BrowserRefusal.DAEMON_AWAY


@pytest.mark.parametrize("token", ["", " ", "a b", "x" * 513, "ü", "a\n", "a/b", "a%20"])
def test_a_malformed_token_is_refused_without_a_call(token: str) -> None:
    peer = FakePeer(SESSION)
    assert refusal(authorize(peer, token)) is BrowserRefusal.TOKEN_UNKNOWN
    assert not peer.calls
