# SPDX-License-Identifier: Apache-2.0
"""Nobody is let in without the daemon's word."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from systemvm.cpvm.management_client import DaemonAuthority
from systemvm.cpvm.refusal import Refusal, RefusedError
from systemvm.rpc.core.errors import BUSY, DEADLINE, FORBIDDEN, INTERNAL, NOT_CONNECTED, REFUSED, RpcError
from systemvm.rpc.core.peer import Peer
from systemvm.wire.console import ConsoleAuthorize, ConsoleSession, ConsoleTarget, ConsoleTargetRequest

SESSION = ConsoleSession("s", "vm", "web", 60)


class FakePeer:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Any]] = []

    async def call(self, method: str, params: Any, **options: Any) -> Any:
        self.asked.append((method, params))
        assert options["deadline_s"] <= 10
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def authority(peer: FakePeer | None) -> DaemonAuthority:
    return DaemonAuthority(lambda: cast(Peer, peer) if peer is not None else None)


def outcome(coroutine: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    return results[0]


def authorize(peer: FakePeer | None, token: str = "t0ken") -> Any:
    return outcome(authority(peer).authorize(ConsoleAuthorize(token, "203.0.113.7", "r")))


def refusal(result: Any) -> Refusal:
    assert isinstance(result.value, RefusedError)
    return result.value.refusal


def test_a_yes() -> None:
    peer = FakePeer(SESSION)
    assert authorize(peer) == SESSION
    assert [method for method, _ in peer.asked] == ["console.authorize"]


def test_a_target() -> None:
    target = ConsoleTarget("10.11.0.1", 5901, "12345678")
    result = outcome(authority(FakePeer(target)).target(ConsoleTargetRequest("s", "r")))
    assert result == target
    assert "12345678" not in repr(target)


def test_what_is_another_cpvms_is_a_no_for_good() -> None:
    """FORBIDDEN with a reason: the token was not made for this CPVM, the session is not its."""
    unknown = RpcError(FORBIDDEN, "not yours", {"reason": "token_unknown"})
    assert refusal(authorize(FakePeer(unknown))) is Refusal.TOKEN_UNKNOWN
    ended = RpcError(FORBIDDEN, "not yours", {"reason": "session_ended"})
    asked = authority(FakePeer(ended)).target(ConsoleTargetRequest("s", "r"))
    assert refusal(outcome(asked)) is Refusal.SESSION_ENDED


def test_nobody_to_ask() -> None:
    assert refusal(authorize(None)) is Refusal.DAEMON_AWAY
    assert refusal(outcome(authority(None).target(ConsoleTargetRequest("s", "r")))) is Refusal.DAEMON_AWAY


@pytest.mark.parametrize("code", [NOT_CONNECTED, DEADLINE, BUSY, INTERNAL, FORBIDDEN])
def test_every_failure_keeps_out(code: int) -> None:
    assert refusal(authorize(FakePeer(RpcError(code, "no")))) is Refusal.DAEMON_AWAY


@pytest.mark.parametrize("data", [{"reason": "token_used"}, {"reason": "token_used", "hint": "x"}])
def test_a_reasoned_no(data: Any) -> None:
    assert refusal(authorize(FakePeer(RpcError(REFUSED, "no", data)))) is Refusal.TOKEN_USED


@pytest.mark.parametrize("data", [None, "x", {}, {"reason": 3}, {"reason": "new"}])
def test_an_unreasoned_no(data: Any) -> None:
    assert refusal(authorize(FakePeer(RpcError(REFUSED, "no", data)))) is Refusal.TOKEN_UNKNOWN


@pytest.mark.parametrize("answer", [None, {}, "yes", True])
def test_an_answer_of_another_shape_is_a_no(answer: Any) -> None:
    assert refusal(authorize(FakePeer(answer))) is Refusal.DAEMON_AWAY


@pytest.mark.parametrize("token", ["", " ", "a b", "x" * 513, "ü", "a\n", "a/b", "a%20"])
def test_what_cannot_be_a_token_is_not_asked(token: str) -> None:
    peer = FakePeer(SESSION)
    assert refusal(authorize(peer, token)) is Refusal.TOKEN_UNKNOWN
    assert not peer.asked
