# SPDX-License-Identifier: Apache-2.0
"""Deadlines: sent with each call, enforced by the callee, and scaled for slow machines."""

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


class PeerEnd:
    """A peer whose queued calls begin when the test runs them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.begun: list[Call] = []
        self.cancelled: list[str] = []
        self.queued: deque[Callable[[], None]] = deque()
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
        self.peer = Peer(AGENT, table, self.clock, self.wire, self.queued.append)

    async def work(self, call: Call, params: None) -> None:
        self.begun.append(call)
        try:
            await Deferred()
        except CancelledError:
            self.cancelled.append(call.request_id)
            raise

    def receive(self, *messages: dict[str, Any]) -> None:
        lines = [json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages]
        self.peer.data_received(b"".join(lines))

    def run_queued(self) -> None:
        queued, self.queued = self.queued, deque()
        for begin in queued:
            begin()

    def errors(self) -> list[tuple[Any, int]]:
        return [(answer["id"], answer["error"]["code"]) for answer in self.wire.take() if "error" in answer]


def set_slowness(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Make the reference task take `scale` times its nominal duration."""
    reference_s = scale * slowness.REFERENCE_NOMINAL_S
    meter = SlownessMeter(counters=lambda: KernelCounters(), reference_task=lambda: reference_s)
    monkeypatch.setattr(slowness, "METER", meter)


@pytest.fixture
def peer_end(monkeypatch: pytest.MonkeyPatch) -> PeerEnd:
    set_slowness(monkeypatch, 1.0)
    return PeerEnd()


def test_a_call_carries_its_deadline() -> None:
    wire, clock = Wire(), Clock()
    peer = Peer(AGENT, MethodTable("t", "1"), clock, wire)
    failed: list[Any] = []
    Deferred.fromCoroutine(peer.call("work", deadline_s=12.5)).addErrback(failed.append)
    peer.notify("event")
    call, event = wire.take()
    assert call["deadline_ms"] >= 12500, "scaled up on a slow machine"
    assert "deadline_ms" not in event
    peer.close("test ended")


def test_a_call_whose_deadline_has_passed_is_not_begun(peer_end: PeerEnd) -> None:
    peer_end.receive(
        {"id": 1, "method": "work", "deadline_ms": 5000},
        {"id": 2, "method": "work", "deadline_ms": 30000},
        {"id": 3, "method": "work"},
    )
    peer_end.clock.advance(10)
    peer_end.run_queued()
    assert len(peer_end.begun) == 2
    assert peer_end.errors() == [(1, DEADLINE)]
    assert peer_end.begun[0].remaining_s(60.0) == 20.0
    assert peer_end.begun[1].remaining_s(60.0) == 60.0


def test_a_handler_ends_at_its_callers_deadline_if_that_is_sooner(peer_end: PeerEnd) -> None:
    peer_end.receive({"id": 1, "method": "work", "deadline_ms": 5000, "request_id": "r-1"})
    peer_end.run_queued()
    peer_end.clock.advance(200)
    assert (peer_end.cancelled, peer_end.errors()) == (["r-1"], [(1, DEADLINE)])


def test_a_handler_ends_at_its_methods_deadline_if_that_is_sooner(peer_end: PeerEnd) -> None:
    peer_end.receive({"id": 1, "method": "work", "deadline_ms": 3_600_000, "request_id": "r-1"})
    peer_end.run_queued()
    assert peer_end.begun[0].remaining_s(1000.0) == 60.0
    peer_end.clock.advance(2000)
    assert peer_end.cancelled == ["r-1"]


def test_the_remaining_time_of_a_handler_scales_with_the_machine(
    peer_end: PeerEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_slowness(monkeypatch, 10.0)
    peer_end.receive({"id": 1, "method": "work", "deadline_ms": 3_600_000})
    peer_end.run_queued()
    peer_end.clock.advance(100)
    assert peer_end.cancelled == []
    assert peer_end.begun[0].remaining_s(1000.0) == 500.0


def test_a_call_that_is_cancelled_in_the_same_turn_is_not_begun(peer_end: PeerEnd) -> None:
    """A busy peer can receive a call and its cancellation together."""
    peer_end.receive({"id": 1, "method": "work"}, {"method": "rpc.cancel", "params": {"id": 1}})
    peer_end.receive({"id": 2, "method": "work"})
    peer_end.run_queued()
    assert len(peer_end.begun) == 1
    assert peer_end.errors() == [(1, DEADLINE)]


def test_queued_calls_are_dropped_with_their_connection(peer_end: PeerEnd) -> None:
    peer_end.receive(
        {"id": 1, "method": "work", "request_id": "r-1"}, {"id": 2, "method": "look", "request_id": "r-2"}
    )
    peer_end.run_queued()
    peer_end.receive({"id": 3, "method": "work"})
    peer_end.peer.connection_lost("disconnected")
    peer_end.run_queued()
    assert [call.request_id for call in peer_end.begun] == ["r-1", "r-2"]
    assert peer_end.cancelled == ["r-2"], "only calls that allow it are cancelled"


def test_a_lost_connection_ends_calls_that_depend_on_each_other(peer_end: PeerEnd) -> None:
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
    peer = Peer(AGENT, methods, peer_end.clock, peer_end.wire)
    for number, name in ((0, "first"), (1, "second")):  # a set of small numbers is iterated in order
        line = {"jsonrpc": "2.0", "id": number, "method": name}
        peer.data_received(json.dumps(line).encode() + b"\n")
    closed = peer.when_closed()
    peer.connection_lost("disconnected")
    assert closed.called


def test_queued_calls_count_as_in_flight(peer_end: PeerEnd) -> None:
    peer_end.receive(*({"id": number, "method": "work"} for number in range(MAX_IN_FLIGHT + 1)))
    assert peer_end.errors() == [(MAX_IN_FLIGHT, BUSY)]
    peer_end.receive({"id": 0, "method": "work"})
    assert peer_end.errors() == [(0, INVALID_REQUEST)], "the id is in flight"


@pytest.mark.parametrize("wrong", [-1, 1.5, "5", True, 2**60, [1]])
def test_an_invalid_deadline_is_refused(peer_end: PeerEnd, wrong: object) -> None:
    peer_end.receive({"id": 1, "method": "work", "deadline_ms": wrong})
    peer_end.run_queued()
    assert peer_end.begun == []
    assert peer_end.errors() == [(1, INVALID_REQUEST)]


def test_a_deadline_counts_down() -> None:
    clock = Clock()
    deadline = Deadline.after(clock.seconds, 10.0)
    clock.advance(4)
    assert (deadline.remaining_s, deadline.has_passed) == (6.0, False)
    clock.advance(7)
    assert (deadline.remaining_s, deadline.has_passed) == (0.0, True)
    assert Call(AGENT, "r", None, deadline).remaining_s(5.0) == 0.0
