# SPDX-License-Identifier: Apache-2.0
"""Broken and hostile peers: errors, bounded memory, and calls that always end."""

from __future__ import annotations

import itertools
import os
import string
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import (
    BUSY,
    DEADLINE,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_CONNECTED,
    PARSE_ERROR,
    RpcError,
)
from systemvm.rpc.core.message import InvalidMessage, Request, Response, read
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import MAX_BAD_FRAMES, MAX_IN_FLIGHT, PROBE_AFTER_S, SILENT_AFTER_S, Peer
from systemvm.rpc.stream.transport import MAX_UNSENT_BYTES, PAUSE_BYTES, StreamProtocol
from unit.rpc.wire_pair import Wire, begin, outcome

#: `make fuzz-rpc` runs many more.
EXAMPLES = int(os.environ.get("RPC_FUZZ_EXAMPLES", "200"))
AGENT = Caller("s-1-VM", "ssvm")
GOOD = b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "code"])
            | st.text(string.ascii_letters, max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def _peer(methods: MethodTable | None = None) -> tuple[Peer, Wire, Clock]:
    wire, clock = Wire(), Clock()
    return Peer(AGENT, methods or MethodTable("t", "1"), clock, wire), wire, clock


def _codes(wire: Wire) -> list[int | None]:
    return [answer.get("error", {}).get("code") for answer in wire.take()]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", PARSE_ERROR),
        (b"{", PARSE_ERROR),
        (b"null null", PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":NaN}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":Infinity}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a:b":1,"a:b":2}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"\xff"}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"\xed\xa0\x80"}}', PARSE_ERROR),
        (b"\xef\xbb\xbf" + GOOD[:-1], PARSE_ERROR),
        (b"[" * 33 + b"]" * 33, PARSE_ERROR),
        (b'{"a":' * 40 + b"1" + b"}" * 40, PARSE_ERROR),
        (b"[" * 500_000, PARSE_ERROR),
        (b"[" + b"]," * 100_000, PARSE_ERROR),
        (b"9" * 5000, PARSE_ERROR),
        (b"[]", INVALID_REQUEST),
        (b"[" + GOOD[:-1] + b"," + GOOD[:-1] + b"]", INVALID_REQUEST),
        (b"42", INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"m"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1e400,"method":"m"}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 100 + b',"method":"m"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":{},"method":"m"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"' + b"m" * 257 + b'"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"m"}', METHOD_NOT_FOUND),
    ],
)
def test_a_bad_frame_gets_its_error_and_the_next_frame_is_read(line: bytes, code: int) -> None:
    peer, wire, _ = _peer()
    peer.data_received(line + b"\n" + GOOD)
    assert _codes(wire) == [code, None]
    assert not peer.closed


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0","id":99,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":99,"result":1,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":99,"error":[]}',
    ],
)
def test_a_response_without_a_call_is_not_responded_to(line: bytes) -> None:
    peer, wire, _ = _peer()
    waiting = begin(peer.call("m", request_id="r"))
    wire.take()
    peer.data_received(line + b"\n")
    assert wire.take() == []
    peer.data_received(b'{"jsonrpc":"2.0","id":1,"result":7}\n')
    assert outcome(waiting) == 7


def test_a_line_without_end_gets_an_error_and_the_connection_is_closed() -> None:
    peer, wire, _ = _peer()
    for _ in range(17):
        peer.data_received(b" " * 65536)
    assert peer.closed
    assert wire.closed == f"a line is longer than {frame.MAX_LINE_BYTES} bytes"
    assert _codes(wire) == [PARSE_ERROR]
    peer.data_received(GOOD)
    assert wire.take() == []


def test_a_peer_that_sends_only_bad_frames_is_disconnected() -> None:
    peer, wire, _ = _peer()
    peer.data_received(b"x\n" * (MAX_BAD_FRAMES - 1) + GOOD)
    assert not peer.closed, "a valid frame resets the count"
    peer.data_received(b"x\n" * (MAX_BAD_FRAMES + 1000))
    assert peer.closed
    assert len(wire.sent) <= 2 * MAX_BAD_FRAMES + 2


def test_single_bytes_do_not_keep_a_connection_open() -> None:
    peer, wire, clock = _peer()
    while clock.seconds() <= SILENT_AFTER_S + PROBE_AFTER_S and not peer.closed:
        peer.data_received(b" ")
        clock.advance(1.0)
    assert wire.closed is not None
    assert wire.closed.startswith("silent")


def _table_with_sleep() -> tuple[MethodTable, list[Deferred[None]]]:
    """Return a table with the method `sleep`, and its running calls."""
    running: list[Deferred[None]] = []

    async def sleep(call: Call, params: None) -> None:
        ended: Deferred[None] = Deferred()
        running.append(ended)
        await ended

    table = MethodTable("t", "1")
    table.add("sleep", sleep, params=None, result=None, roles=frozenset({"ssvm"}), deadline_s=5.0)
    return table, running


def test_a_flood_of_calls_is_busy_and_costs_no_more_than_the_limit() -> None:
    table, running = _table_with_sleep()
    peer, wire, clock = _peer(table)
    for number in range(1000):
        peer.data_received(b'{"jsonrpc":"2.0","id":%d,"method":"sleep"}\n' % number)
    assert len(running) == MAX_IN_FLIGHT
    assert _codes(wire) == [BUSY] * (1000 - MAX_IN_FLIGHT)
    clock.advance(6.0)  # all calls reach their deadline
    wire.take()
    peer.data_received(GOOD)
    assert _codes(wire) == [None]


def test_a_flood_of_notifications_is_dropped_past_the_limit() -> None:
    table, running = _table_with_sleep()
    peer, wire, clock = _peer(table)
    peer.data_received(b'{"jsonrpc":"2.0","method":"sleep"}\n' * 5000)
    assert len(running) == MAX_IN_FLIGHT
    assert wire.take() == []
    clock.advance(6.0)
    peer.data_received(b'{"jsonrpc":"2.0","method":"sleep"}\n')
    assert len(running) == MAX_IN_FLIGHT + 1


def test_outgoing_calls_are_limited_and_end_with_the_connection() -> None:
    peer, _, _ = _peer()
    calls = [begin(peer.call("m")) for _ in range(MAX_IN_FLIGHT + 1)]
    with pytest.raises(RpcError) as busy:
        outcome(calls.pop())
    assert busy.value.code == BUSY
    peer.connection_lost("cable")
    for call in calls:
        with pytest.raises(RpcError) as lost:
            outcome(call)
        assert lost.value.code == NOT_CONNECTED


def test_unsent_frames_for_a_peer_that_does_not_read_are_bounded() -> None:
    """Reading pauses above the first limit; above the second one the peer is disconnected."""
    lost: list[str] = []
    protocol = StreamProtocol(
        Clock(), MethodTable("t", "1"), lambda peer: None, lambda peer, reason: lost.append(reason)
    )
    transport: Any = StringTransport()
    protocol.makeConnection(transport)
    protocol.start_peer(AGENT)
    protocol.pauseProducing()
    chunk = b"x" * (PAUSE_BYTES // 2)
    for _ in range(MAX_UNSENT_BYTES // len(chunk)):
        protocol.send(chunk)
    assert not transport.disconnected
    assert transport.producerState == "paused"
    protocol.send(chunk)
    assert transport.disconnected or transport.disconnecting or protocol.refusal is not None
    assert "does not read" in (protocol.refusal or "")


# --- fuzzing


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=300))
def test_any_line_is_decoded_or_refused(line: bytes) -> None:
    try:
        frame.decode(line)
    except RpcError as error:
        assert error.code == PARSE_ERROR


@settings(max_examples=EXAMPLES, deadline=None)
@given(JSON)
def test_any_json_is_a_message_or_refused(value: object) -> None:
    try:
        got = read(value)
    except InvalidMessage as invalid:
        assert invalid.answer is None or invalid.answer.error is not None
    else:
        assert isinstance(got, Request | Response)


@settings(max_examples=EXAMPLES, deadline=None)
@given(JSON)
def test_decoded_json_is_encoded_to_the_same_text(value: object) -> None:
    text = msgspec.json.encode(value)
    if frame.within_depth(text):
        decoded = frame.decode(text)
        assert msgspec.json.encode(decoded) == text


def _cut(data: bytes, at: list[int]) -> Iterator[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    for begin_, end in itertools.pairwise(edges):
        yield data[begin_:end]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.binary(max_size=60) | JSON.map(msgspec.json.encode), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_any_input_is_handled_and_each_response_is_one_frame(sent: list[bytes], at: list[int]) -> None:
    table, _ = _table_with_sleep()
    peer, wire, clock = _peer(table)
    for data in _cut(b"".join(line + b"\n" for line in sent), at):
        peer.data_received(data)
    clock.advance(10.0)
    if not peer.closed:
        peer.data_received(b"\n" + GOOD)
    for line in wire.sent:
        assert line.count(b"\n") == 1
        assert msgspec.json.decode(line)["jsonrpc"] == "2.0"


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("inf"), float("nan"), 3601.0])
def test_every_method_needs_a_deadline(deadline_s: float) -> None:
    async def nothing(call: Call, params: None) -> None:
        """Never called."""

    with pytest.raises(ValueError, match="deadline"):
        MethodTable("t", "1").add(
            "m", nothing, params=None, result=None, roles=frozenset({"ssvm"}), deadline_s=deadline_s
        )


def test_a_handler_ends_at_its_deadline_or_when_its_caller_cancels() -> None:
    ended: list[str] = []

    async def sleep(call: Call, params: None) -> None:
        try:
            await Deferred()
        except CancelledError:
            ended.append(call.request_id)
            raise

    table = MethodTable("t", "1")
    table.add("sleep", sleep, params=None, result=None, roles=frozenset({"ssvm"}), deadline_s=5.0)
    peer, wire, clock = _peer(table)
    for number in (1, 2):
        peer.data_received(
            b'{"jsonrpc":"2.0","id":%d,"method":"sleep","request_id":"r%d"}\n' % (number, number)
        )
    peer.data_received(b'{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":2}}\n')
    assert ended == ["r2"]
    clock.advance(5.0)
    assert ended == ["r2", "r1"]
    assert _codes(wire) == [DEADLINE, DEADLINE]
