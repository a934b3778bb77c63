# SPDX-License-Identifier: Apache-2.0
"""The deadline of a caller is sent with its call; a call past its deadline is not begun."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from systemvm.rpc.core.deadline import Deadline
from systemvm.rpc.core.errors import BUSY, DEADLINE, INVALID_REQUEST
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import MAX_IN_FLIGHT, Peer
from systemvm.service import slowness
from systemvm.service.slowness import KernelCounters, SlownessMeter
from unit.rpc.wire_pair import Wire

AGENT = Caller("s-1-VM", "ssvm")
ROLES = frozenset({AGENT.role})


class End:
    """An end whose calls begin when the test turns its reactor, one a turn."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.begun: list[Call] = []
        self.cancelled: list[str] = []
        self.turns: deque[Callable[[], None]] = deque()
        table = MethodTable("an end", "1")
        table.add("work", self.work, params=None, result=None, roles=ROLES, deadline_s=60.0)
        table.add(
            "look",
            self.work,
            params=None,
            result=None,
            roles=ROLES,
            deadline_s=60.0,
            cancel_on_disconnect=True,
        )
        self.peer = Peer(AGENT, table, self.clock, self.wire, self.turns.append)

    async def work(self, call: Call, params: None) -> None:
        self.begun.append(call)
        try:
            await Deferred()
        except CancelledError:
            self.cancelled.append(call.request_id)
            raise

    def hear(self, *messages: dict[str, Any]) -> None:
        lines = [json.dumps({"jsonrpc": "2.0", **each}).encode() + b"\n" for each in messages]
        self.peer.data_received(b"".join(lines))

    def turn(self) -> None:
        turns, self.turns = self.turns, deque()
        for each in turns:
            each()

    def errors(self) -> list[tuple[Any, int]]:
        return [(answer["id"], answer["error"]["code"]) for answer in self.wire.take() if "error" in answer]


def set_slowness(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """This machine takes so many times as long as slow hardware for the reference task."""
    reference_s = scale * slowness.REFERENCE_NOMINAL_S
    meter = SlownessMeter(counters=lambda: KernelCounters(), reference_task=lambda: reference_s)
    monkeypatch.setattr(slowness, "METER", meter)


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> End:
    set_slowness(monkeypatch, 1.0)
    return End()


def test_a_call_carries_its_deadline() -> None:
    wire, clock = Wire(), Clock()
    peer = Peer(AGENT, MethodTable("t", "1"), clock, wire)
    failed: list[Any] = []
    Deferred.fromCoroutine(peer.call("work", deadline_s=12.5)).addErrback(failed.append)
    peer.notify("news")
    call, news = wire.take()
    assert call["deadline_ms"] >= 12500, "scaled up where the machine is slow"
    assert "deadline_ms" not in news
    peer.close("the test is over")


def test_a_call_whose_deadline_has_passed_is_not_begun(end: End) -> None:
    end.hear(
        {"id": 1, "method": "work", "deadline_ms": 5000},
        {"id": 2, "method": "work", "deadline_ms": 30000},
        {"id": 3, "method": "work"},
    )
    end.clock.advance(10)
    end.turn()
    assert len(end.begun) == 2
    assert end.errors() == [(1, DEADLINE)]
    assert end.begun[0].remaining_s(60.0) == 20.0
    assert end.begun[1].remaining_s(60.0) == 60.0


def test_a_handler_ends_at_its_callers_deadline_if_that_is_sooner(end: End) -> None:
    end.hear({"id": 1, "method": "work", "deadline_ms": 5000, "request_id": "r-1"})
    end.turn()
    end.clock.advance(200)
    assert (end.cancelled, end.errors()) == (["r-1"], [(1, DEADLINE)])


def test_a_handler_ends_at_its_methods_deadline_if_that_is_sooner(end: End) -> None:
    end.hear({"id": 1, "method": "work", "deadline_ms": 3_600_000, "request_id": "r-1"})
    end.turn()
    assert end.begun[0].remaining_s(1000.0) == 60.0
    end.clock.advance(2000)
    assert end.cancelled == ["r-1"]


def test_the_remaining_time_of_a_handler_scales_with_the_machine(
    end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_slowness(monkeypatch, 10.0)
    end.hear({"id": 1, "method": "work", "deadline_ms": 3_600_000})
    end.turn()
    end.clock.advance(100)
    assert end.cancelled == []
    assert end.begun[0].remaining_s(1000.0) == 500.0


def test_a_call_that_is_cancelled_in_the_same_turn_is_not_begun(end: End) -> None:
    """An end that was too busy to read finds the call and its end together."""
    end.hear({"id": 1, "method": "work"}, {"method": "rpc.cancel", "params": {"id": 1}})
    end.hear({"id": 2, "method": "work"})
    end.turn()
    assert len(end.begun) == 1
    assert end.errors() == [(1, DEADLINE)]


def test_queued_calls_are_dropped_with_their_connection(end: End) -> None:
    end.hear(
        {"id": 1, "method": "work", "request_id": "r-1"}, {"id": 2, "method": "look", "request_id": "r-2"}
    )
    end.turn()
    end.hear({"id": 3, "method": "work"})
    end.peer.connection_lost("it hung up")
    end.turn()
    assert [call.request_id for call in end.begun] == ["r-1", "r-2"]
    assert end.cancelled == ["r-2"], "what may be left half done is not"


def test_a_lost_connection_ends_all_calls_even_if_one_ends_another(end: End) -> None:
    shared: Deferred[None] = Deferred()
    methods = MethodTable("an end", "1")

    async def first(call: Call, params: None) -> None:
        try:
            await Deferred()
        finally:
            shared.callback(None)

    async def second(call: Call, params: None) -> None:
        await shared

    for name, handler in (("first", first), ("second", second)):
        methods.add(name, handler, params=None, result=None, roles=ROLES, cancel_on_disconnect=True)
    peer = Peer(AGENT, methods, end.clock, end.wire)
    for number, name in ((0, "first"), (1, "second")):  # a set of small numbers is gone through in order
        line = {"jsonrpc": "2.0", "id": number, "method": name}
        peer.data_received(json.dumps(line).encode() + b"\n")
    closed = peer.when_closed()
    peer.connection_lost("it hung up")
    assert closed.called


def test_queued_calls_count_as_in_flight(end: End) -> None:
    end.hear(*({"id": number, "method": "work"} for number in range(MAX_IN_FLIGHT + 1)))
    assert end.errors() == [(MAX_IN_FLIGHT, BUSY)]
    end.hear({"id": 0, "method": "work"})
    assert end.errors() == [(0, INVALID_REQUEST)], "the id waits for its answer already"


@pytest.mark.parametrize("wrong", [-1, 1.5, "5", True, 2**60, [1]])
def test_an_invalid_deadline_is_refused(end: End, wrong: object) -> None:
    end.hear({"id": 1, "method": "work", "deadline_ms": wrong})
    end.turn()
    assert end.begun == []
    assert end.errors() == [(1, INVALID_REQUEST)]


def test_a_deadline_counts_down() -> None:
    clock = Clock()
    deadline = Deadline.after(clock.seconds, 10.0)
    clock.advance(4)
    assert (deadline.remaining_s, deadline.has_passed) == (6.0, False)
    clock.advance(7)
    assert (deadline.remaining_s, deadline.has_passed) == (0.0, True)
    assert Call(AGENT, "r", None, deadline).remaining_s(5.0) == 0.0
