# SPDX-License-Identifier: Apache-2.0
"""The peer without a socket: calls in both directions, limits, deadlines, cancellation and invalid frames."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, globalLogPublisher

from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import (
    BUSY,
    DEADLINE,
    INTERNAL,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_CONNECTED,
    PARSE_ERROR,
    RpcError,
)
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import MAX_IN_FLIGHT
from systemvm.wire.agent import Ping, Pong
from unit.rpc.wire_pair import Pair, begin, outcome

ALL_ROLES = frozenset({"ssvm", "management"})


@frozen
class Slept:
    request_id: str


class Methods:
    """Methods whose handlers are completed by the test and record their calls."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.calls: list[Call] = []
        self.cancelled = 0
        self.table = MethodTable("test", "1")
        for name, handler, params in (
            ("ping", self.ping, Ping),
            ("sleep", self.sleep, None),
            ("boom", self.boom, None),
            ("refuse", self.refuse, None),
            ("large", self.large, None),
            ("odd", self.odd, None),
        ):
            self.table.add(name, handler, params=params, result=None, roles=ALL_ROLES)

    async def ping(self, call: Call, params: Ping) -> Pong:
        self.calls.append(call)
        return Pong(params.sent_unix_s, 2.0)

    async def sleep(self, call: Call, params: None) -> Slept:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        try:
            await waiting
        except CancelledError:
            self.cancelled += 1
            raise
        return Slept(call.request_id)

    async def boom(self, call: Call, params: None) -> None:
        raise RuntimeError("the password is hunter2")

    async def refuse(self, call: Call, params: None) -> None:
        raise RpcError.refused("no_room", "no room on the store", "delete something")

    async def large(self, call: Call, params: None) -> str:
        return "x" * frame.MAX_LINE_BYTES

    async def odd(self, call: Call, params: None) -> object:
        return object()


class Harness:
    def __init__(self) -> None:
        self.at_daemon, self.at_agent = Methods(), Methods()
        self.pair = Pair(self.at_daemon.table, self.at_agent.table)
        self.clock, self.deliver = self.pair.clock, self.pair.deliver
        self.agent, self.daemon = self.pair.agent, self.pair.daemon

    def raw(self, line: bytes | dict[str, Any]) -> list[Any]:
        """Return the responses of the daemon's end to bytes from the agent."""
        data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
        self.agent.data_received(data)
        return self.pair.daemon_wire.take()

    def call(self, **members: Any) -> list[Any]:
        return self.raw({"jsonrpc": "2.0", **members})


@pytest.fixture
def harness() -> Harness:
    return Harness()


@pytest.fixture
def log() -> Any:
    events: list[Any] = []
    observer = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def _fails(deferred: Deferred[Any], code: int) -> RpcError:
    with pytest.raises(RpcError) as caught:
        outcome(deferred)
    assert caught.value.code == code
    return caught.value


def test_both_ends_can_call(harness: Harness) -> None:
    up = begin(harness.daemon.call("ping", Ping(1.0), result=Pong, request_id="r-1"))
    down = begin(harness.agent.call("ping", {"sent_unix_s": 3.0}))
    harness.deliver()
    assert outcome(up) == Pong(1.0, 2.0)
    assert outcome(down) == {"sent_unix_s": 3.0, "clock_unix_s": 2.0}
    (call,) = harness.at_daemon.calls
    assert (call.caller.name, call.request_id, call.peer) == ("s-1-VM", "r-1", harness.agent)


def test_responses_can_arrive_in_any_order(harness: Harness) -> None:
    calls = [begin(harness.daemon.call("sleep", request_id=f"r-{n}", result=Slept)) for n in range(3)]
    harness.deliver()
    for n in (2, 0, 1):
        harness.at_daemon.waiting[n].callback(None)
    harness.deliver()
    assert [outcome(call).request_id for call in calls] == ["r-0", "r-1", "r-2"]


def test_a_call_without_a_request_id_gets_one(harness: Harness) -> None:
    begin(harness.daemon.call("ping", Ping(1.0)))
    begin(harness.daemon.call("ping", Ping(1.0)))
    harness.deliver()
    one, two = (call.request_id for call in harness.at_daemon.calls)
    assert one and two and one != two


def test_errors_of_handlers_reach_the_caller(harness: Harness) -> None:
    refused = begin(harness.daemon.call("refuse"))
    unknown = begin(harness.daemon.call("nothing"))
    bad = begin(harness.daemon.call("ping", {"sent_unix_s": "now"}))
    harness.deliver()
    error = _fails(refused, -32010)
    assert (error.reason, error.hint) == ("no_room", "delete something")
    _fails(unknown, METHOD_NOT_FOUND)
    _fails(bad, INVALID_PARAMS)


def test_an_unexpected_exception_shows_an_incident_and_nothing_else(harness: Harness, log: list[Any]) -> None:
    failed = begin(harness.daemon.call("boom", request_id="r-7"))
    assert b"hunter2" not in b"".join(harness.pair.daemon_wire.sent)
    harness.deliver()
    error = _fails(failed, INTERNAL)
    incident = error.data["incident"]
    assert incident in error.message and "hunter2" not in str(error.to_wire())
    (event,) = [event for event in log if event.get("incident") == incident]
    assert event["request_id"] == "r-7"
    assert "hunter2" in str(event["log_failure"].value)


@pytest.mark.parametrize("method", ["large", "odd"])
def test_an_answer_that_cannot_be_sent_is_an_error(harness: Harness, method: str) -> None:
    failed = begin(harness.daemon.call(method))
    harness.deliver()
    _fails(failed, INTERNAL)


def test_parameters_that_cannot_be_sent_fail_at_the_caller(harness: Harness) -> None:
    _fails(begin(harness.daemon.call("ping", {"x": "y" * frame.MAX_LINE_BYTES})), INVALID_PARAMS)
    _fails(begin(harness.daemon.call("ping", {"x": object()})), INVALID_PARAMS)
    assert harness.pair.agent_wire.sent == []


def test_a_result_of_an_unexpected_type_fails_at_the_caller(harness: Harness) -> None:
    failed = begin(harness.daemon.call("ping", Ping(1.0), result=Slept))
    harness.deliver()
    _fails(failed, INTERNAL)


# Limits.


def test_the_65th_call_is_refused_on_this_end(harness: Harness) -> None:
    calls = [begin(harness.daemon.call("sleep")) for _ in range(MAX_IN_FLIGHT)]
    _fails(begin(harness.daemon.call("sleep")), BUSY)
    harness.deliver()
    harness.at_daemon.waiting[0].callback(None)
    harness.deliver()
    outcome(calls[0])
    again = begin(harness.daemon.call("ping", Ping(1.0)))
    harness.deliver()
    outcome(again)


def test_the_65th_call_is_refused_by_the_other_end_too(harness: Harness) -> None:
    for n in range(MAX_IN_FLIGHT):
        assert harness.call(id=n, method="sleep") == []
    (answer,) = harness.call(id="one more", method="ping", params={"sent_unix_s": 1})
    assert (answer["id"], answer["error"]["code"]) == ("one more", BUSY)
    (alive,) = harness.call(id="p", method="rpc.ping")
    assert alive["result"] == {}


def test_an_id_in_flight_is_not_accepted_twice(harness: Harness) -> None:
    assert harness.call(id=1, method="sleep") == []
    (answer,) = harness.call(id=1, method="sleep")
    assert answer["error"]["code"] == INVALID_REQUEST
    assert len(harness.at_daemon.waiting) == 1


def test_notifications_are_handled_64_at_a_time_and_never_answered(harness: Harness) -> None:
    for _ in range(MAX_IN_FLIGHT + 20):
        assert harness.call(method="sleep") == []
    assert len(harness.at_daemon.waiting) == MAX_IN_FLIGHT
    for waiting in list(harness.at_daemon.waiting):
        waiting.callback(None)
    for method in ("nothing", "boom", "refuse", "sleep"):
        assert harness.call(method=method) == []
    assert len(harness.at_daemon.waiting) == MAX_IN_FLIGHT + 1


def test_notify_calls_the_handler_and_is_ignored_when_closed(harness: Harness) -> None:
    harness.daemon.notify("ping", Ping(1.0))
    harness.deliver()
    assert len(harness.at_daemon.calls) == 1
    harness.daemon.close("over")
    harness.daemon.notify("ping", Ping(1.0))


# Deadlines and keepalive.


def test_a_call_ends_at_its_deadline_and_the_other_end_stops_work(harness: Harness) -> None:
    call = begin(harness.daemon.call("sleep", deadline_s=5))
    harness.deliver()
    harness.clock.advance(5)
    _fails(call, DEADLINE)
    harness.deliver()
    assert harness.at_daemon.cancelled == 1
    assert harness.clock.getDelayedCalls() and not harness.daemon.closed


def test_a_late_answer_is_ignored(harness: Harness) -> None:
    call = begin(harness.daemon.call("sleep", deadline_s=5))
    (request,) = harness.pair.agent_wire.take()
    harness.clock.advance(5)
    _fails(call, DEADLINE)
    harness.daemon.data_received(
        json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": 1}).encode() + b"\n"
    )
    assert not harness.daemon.closed


def test_a_cancelled_call_is_cancelled_at_the_callee(harness: Harness) -> None:
    call = begin(harness.daemon.call("sleep"))
    harness.deliver()
    call.cancel()
    with pytest.raises(CancelledError):
        outcome(call)
    harness.deliver()
    assert harness.at_daemon.cancelled == 1


def test_a_handler_that_takes_too_long_is_cancelled_by_its_own_end(harness: Harness) -> None:
    harness.call(id=1, method="sleep")
    harness.clock.advance(29.9)
    assert harness.at_daemon.cancelled == 0
    harness.pair.daemon_wire.take()
    harness.clock.advance(0.2)
    assert harness.at_daemon.cancelled == 1
    (answer,) = harness.pair.daemon_wire.take()
    assert answer["error"]["code"] == DEADLINE


@pytest.mark.parametrize("params", [None, [], {}, {"id": None}, {"id": [1]}, {"id": 99}, {"id": {}}])
def test_cancelling_an_unknown_call_does_nothing(harness: Harness, params: object) -> None:
    message = {"jsonrpc": "2.0", "method": "rpc.cancel"} | ({} if params is None else {"params": params})
    assert harness.raw(message) == []


def test_a_finished_call_leaves_no_timer(harness: Harness) -> None:
    call = begin(harness.daemon.call("ping", Ping(1.0)))
    harness.deliver()
    outcome(call)
    assert len(harness.clock.getDelayedCalls()) == 2  # the keepalive timer of each peer


def test_a_silent_peer_that_answers_probes_is_kept(harness: Harness) -> None:
    for _ in range(40):
        harness.clock.advance(10)
        harness.deliver()
    assert not harness.agent.closed and not harness.daemon.closed


def test_a_silent_peer_is_closed(harness: Harness) -> None:
    waiting = begin(harness.daemon.call("sleep", deadline_s=1000))
    for _ in range(6):
        assert not harness.daemon.closed
        harness.clock.advance(10)
    assert harness.daemon.closed
    assert "silent" in (harness.pair.agent_wire.closed or "")
    _fails(waiting, NOT_CONNECTED)


# Disconnects.


def test_a_lost_connection_fails_every_call_once(harness: Harness) -> None:
    calls = [begin(harness.daemon.call("sleep")) for _ in range(3)]
    closed = harness.daemon.when_closed()
    harness.daemon.connection_lost("cable pulled")
    harness.daemon.connection_lost("again")
    for call in calls:
        assert "cable pulled" in _fails(call, NOT_CONNECTED).message
    assert outcome(closed) == "cable pulled"
    assert outcome(harness.daemon.when_closed()) == "cable pulled"
    _fails(begin(harness.daemon.call("ping", Ping(1.0))), NOT_CONNECTED)


def test_a_handler_continues_after_the_connection_is_lost_without_a_response(harness: Harness) -> None:
    harness.call(id=1, method="sleep")
    harness.agent.connection_lost("gone")
    harness.at_daemon.waiting[0].callback(None)
    assert harness.at_daemon.cancelled == 0
    assert harness.pair.daemon_wire.sent == []


def test_nothing_is_read_after_close(harness: Harness) -> None:
    harness.agent.close("enough")
    line = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"sent_unix_s":1}}\n'
    assert harness.raw(line * 3) == []
    assert harness.at_daemon.calls == []


# Bad frames.


@pytest.mark.parametrize(
    "line,code",
    [
        (b"GET / HTTP/1.1\r\n", PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}\n', PARSE_ERROR),
        (b'{"a":' * 33 + b"1" + b"}" * 33 + b"\n", PARSE_ERROR),
        (b"\n", PARSE_ERROR),
        (b"[]\n", INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n', INVALID_REQUEST),
        (b"{}\n", INVALID_REQUEST),
        (b"1\n", INVALID_REQUEST),
    ],
)
def test_a_bad_frame_is_answered_with_id_null_and_the_next_one_is_read(
    harness: Harness, line: bytes, code: int
) -> None:
    (answer,) = harness.raw(line)
    assert (answer["id"], answer["error"]["code"]) == (None, code)
    (pong,) = harness.call(id=1, method="ping", params={"sent_unix_s": 1.5})
    assert pong["result"]["sent_unix_s"] == 1.5


def test_a_line_too_long_closes_with_a_logged_reason(harness: Harness, log: list[Any]) -> None:
    for _ in range(17):
        harness.agent.data_received(b"x" * 65536)
    assert harness.agent.closed
    assert "longer than 1048576" in (harness.pair.daemon_wire.closed or "")
    assert any("longer than" in str(event.get("why")) for event in log)


def test_error_responses_are_not_answered(harness: Harness) -> None:
    assert harness.call(id=None, error={"code": -32700, "message": "parse error"}) == []
    assert harness.call(id=12345, result="unexpected") == []
    assert harness.call(id=1, result=1, error=1) == []


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_leave_a_peer_that_works_or_is_closed(chunks: list[bytes]) -> None:
    harness = Harness()
    for chunk in chunks:
        harness.agent.data_received(chunk)
    harness.agent.data_received(b"\n")
    harness.pair.daemon_wire.take()
    (pong,) = harness.call(id=1, method="ping", params={"sent_unix_s": 1.0})
    assert pong["result"]["sent_unix_s"] == 1.0
