# SPDX-License-Identifier: Apache-2.0
"""Golden frames of protocol 3: a reason in every error, and an agent with an older daemon."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from contract.test_rpc_frames import AGENT, HELLO, WELCOME, end_of_daemon, ends, lines, replay
from systemvm.rpc.core.errors import BUSY, DEADLINE, NOT_CONNECTED, REFUSED, RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.wire import agent, protocol
from systemvm.wire.call_failure import CallFailure

HELLO_3 = evolve(
    HELLO,
    protocol_version=3,
    agent_version="0.3.0",
    image_version="0.3.0",
    instance="4f9d6c1e0b7a4d5c9a8b7c6d5e4f3a2b",
    capabilities=["links", "uploads"],
)
WELCOME_3 = evolve(WELCOME, protocol_version=3)


def test_every_error_has_its_reason() -> None:
    peer, channel = end_of_daemon([])
    for mark, line in lines("rpc_errors_v3.frames"):
        if mark == AGENT:
            assert channel.sent == []
            peer.data_received(line + b"\n")
            continue
        wanted, got = msgspec.json.decode(line), msgspec.json.decode(channel.sent.pop(0))
        assert (got["id"], got["error"]["code"]) == (wanted["id"], wanted["error"]["code"])
        assert got["error"]["data"]["reason"] == wanted["error"]["data"]["reason"]
    assert channel.sent == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RpcError(BUSY, "too many calls"), CallFailure.BUSY.value),
        (RpcError(DEADLINE, "late", {"hint": "wait"}), CallFailure.DEADLINE.value),
        (RpcError(NOT_CONNECTED, "gone"), CallFailure.NOT_CONNECTED.value),
        (RpcError.refused("store_full", "full"), "store_full"),
        (RpcError(REFUSED, "without a reason"), ""),
        (RpcError(BUSY, "a reason of its own", {"reason": "store_hangs"}), "store_hangs"),
    ],
)
def test_reason_survives_encoding(error: RpcError, reason: str) -> None:
    read = RpcError.from_wire(error.to_wire())
    assert (read.code, read.message, read.hint, read.reason) == (
        error.code,
        error.message,
        error.hint,
        reason,
    )


def test_an_error_of_protocol_2_is_parsed_without_a_reason() -> None:
    read = RpcError.from_wire({"code": BUSY, "message": "too many calls", "data": {"hint": "wait"}})
    assert (read.code, read.reason, read.hint) == (BUSY, "", "wait")


def test_agent_sends_hello_of_protocol_3() -> None:
    peer, channel = ends(MethodTable("agent", "1"), Caller("host-1", "management"))
    results: list[Any] = []

    def act(place: int) -> None:
        call = peer.call(agent.HELLO, HELLO_3, result=agent.Welcome, request_id="req-hello")
        Deferred.fromCoroutine(call).addBoth(results.append)

    replay("rpc_hello_v3.frames", AGENT, peer, channel, act)
    assert results == [WELCOME_3]


def test_agent_sends_hello_again_to_a_daemon_of_protocol_2() -> None:
    peer, channel = ends(MethodTable("agent", "1"), Caller("host-1", "management"))
    results: list[Any] = []

    def act(place: int) -> None:
        version = 3 if place == 0 else results[-1].protocol_version
        hello = evolve(HELLO_3, protocol_version=version)
        call = peer.call(agent.HELLO, hello, result=agent.Welcome, request_id="req-hello")
        Deferred.fromCoroutine(call).addBoth(results.append)

    replay("rpc_hello_again_v3.frames", AGENT, peer, channel, act)
    assert [welcome.protocol_version for welcome in results] == [2, 2]


def test_daemon_reads_hello_of_protocol_3() -> None:
    seen: list[Any] = []
    peer, channel = end_of_daemon(seen)
    (_, hello), (_, welcome) = lines("rpc_hello_v3.frames")
    peer.data_received(hello + b"\n")
    assert seen == [HELLO_3]
    assert [protocol.negotiate(version) for version in (1, 2, 3, 4)] == [1, 2, 3, 3]
    assert set(msgspec.json.decode(channel.sent[0])["result"]) == set(msgspec.json.decode(welcome)["result"])
