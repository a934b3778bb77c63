# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames: with wsproto as the peer, in every split, and malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from systemvm.cpvm import websocket
from systemvm.cpvm.websocket import CloseCode, DataFrame, FrameParser, Opcode, WebSocketError

MASK = b"\x0f\xf0\x55\xaa"


def frame(first: int, payload: bytes = b"", *, mask: bytes = MASK) -> bytes:
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        length = b"\xfe" + len(payload).to_bytes(2, "big")
    else:
        length = b"\xff" + len(payload).to_bytes(8, "big")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first]) + length + mask + masked


def events_of(parser: FrameParser, pieces: list[bytes]) -> list[websocket.Event]:
    """Return the events with adjacent data joined, because where data is cut has no meaning."""
    events: list[websocket.Event] = []
    for piece in pieces:
        for event in parser.feed(piece):
            last = events[-1] if events else None
            if isinstance(event, DataFrame):
                event = DataFrame(event.payload)
                if isinstance(last, DataFrame):
                    events[-1] = DataFrame(last.payload + event.payload)
                    continue
            events.append(event)
    return events


SAMPLE = (
    frame(0x82, b"one")
    + frame(0x02, b"two ")
    + frame(0x89, b"ping")
    + frame(0x00, b"")
    + frame(0x80, b"three")
    + frame(0x82, bytes(range(256)))
    + frame(0x8A)
    + frame(0x88, (1000).to_bytes(2, "big") + "gülle".encode())
)
SAMPLE_EVENTS = [
    DataFrame(b"onetwo "),
    websocket.PingFrame(b"ping"),
    DataFrame(b"three" + bytes(range(256))),
    websocket.PongFrame(b""),
    websocket.CloseFrame(1000, "gülle"),
]


def test_frames_can_be_split_anywhere() -> None:
    for at in range(len(SAMPLE) + 1):
        assert events_of(FrameParser(), [SAMPLE[:at], SAMPLE[at:]]) == SAMPLE_EVENTS


def test_frames_can_arrive_byte_by_byte() -> None:
    assert events_of(FrameParser(), [SAMPLE[at : at + 1] for at in range(len(SAMPLE))]) == SAMPLE_EVENTS


def test_events_before_a_violation_are_handled() -> None:
    events = FrameParser().feed(frame(0x82, b"key") + frame(0x83))
    assert next(events) == DataFrame(b"key", is_final=True)
    with pytest.raises(WebSocketError, match="unknown opcode"):
        next(events)


def test_a_truncated_frame_is_not_an_event() -> None:
    for at in range(len(SAMPLE)):
        events = events_of(FrameParser(), [SAMPLE[:at]])
        assert not any(isinstance(event, websocket.CloseFrame) for event in events)


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.data())
def test_frames_of_wsproto_are_parsed(messages: list[bytes], data: st.DataObject) -> None:
    client = Connection(ConnectionType.CLIENT)
    wire = b"".join(client.send(BytesMessage(message)) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    joined = b"".join(
        event.payload for event in events_of(FrameParser(), pieces) if isinstance(event, DataFrame)
    )
    assert joined == b"".join(messages)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(noise: bytes) -> None:
    try:
        list(FrameParser().feed(noise))
    except WebSocketError as broken:
        assert 1000 <= broken.code <= 1011


@given(st.integers(0, 70_000))
def test_wsproto_parses_our_frames(size: int) -> None:
    payload = bytes(size)
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(
        websocket.binary_frame(payload)
        + websocket.control_frame(Opcode.PING, b"p")
        + websocket.control_frame(Opcode.PONG)
        + websocket.close_frame(4410, "gone")
    )
    events = list(client.events())
    assert b"".join(bytes(event.data) for event in events if isinstance(event, BytesMessage)) == payload
    assert any(isinstance(event, Ping) and event.payload == b"p" for event in events)
    assert any(isinstance(event, Pong) for event in events)
    assert isinstance(events[-1], CloseConnection)
    assert (events[-1].code, events[-1].reason) == (4410, "gone")


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x82\x03abc", CloseCode.PROTOCOL_ERROR),
        (frame(0x81, b"text"), CloseCode.UNSUPPORTED_DATA),
        (frame(0xC2), CloseCode.PROTOCOL_ERROR),
        (frame(0xA2), CloseCode.PROTOCOL_ERROR),
        (frame(0x92), CloseCode.PROTOCOL_ERROR),
        (frame(0x83), CloseCode.PROTOCOL_ERROR),
        (frame(0x8B), CloseCode.PROTOCOL_ERROR),
        (frame(0x80, b"x"), CloseCode.PROTOCOL_ERROR),
        (frame(0x02, b"x") + frame(0x82, b"y"), CloseCode.PROTOCOL_ERROR),
        (frame(0x09), CloseCode.PROTOCOL_ERROR),
        (b"\x89\xfe\x00\x7e" + MASK, CloseCode.PROTOCOL_ERROR),
        (b"\x82\xfe\x00\x7d" + MASK, CloseCode.PROTOCOL_ERROR),
        (b"\x82\xff" + (65535).to_bytes(8, "big") + MASK, CloseCode.PROTOCOL_ERROR),
        (b"\x82\xff" + b"\xff" * 8 + MASK, CloseCode.PROTOCOL_ERROR),
        (b"\x82\xff" + ((1 << 20) + 1).to_bytes(8, "big") + MASK, CloseCode.MESSAGE_TOO_BIG),
        (frame(0x88, b"\x03"), CloseCode.PROTOCOL_ERROR),
        (frame(0x88, (999).to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR),
        (frame(0x88, (1005).to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR),
        (frame(0x88, (5000).to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR),
        (frame(0x88, (1000).to_bytes(2, "big") + b"\xff"), CloseCode.INVALID_PAYLOAD),
    ],
)
def test_broken_frames_are_errors(wire: bytes, code: CloseCode) -> None:
    with pytest.raises(WebSocketError) as broken:
        list(FrameParser().feed(wire))
    assert broken.value.code is code


def test_fragments_of_a_message_are_limited_together() -> None:
    parser = FrameParser(max_message_bytes=10)
    list(parser.feed(frame(0x02, b"12345") + frame(0x00, b"12345")))
    with pytest.raises(WebSocketError, match="the maximum is 10"):
        list(parser.feed(frame(0x80, b"1")))
    fresh = FrameParser(max_message_bytes=10)
    for _ in range(5):  # whole messages are limited one by one
        list(fresh.feed(frame(0x82, b"1234567890")))


def test_a_false_length_costs_no_memory() -> None:
    parser = FrameParser()
    list(parser.feed(b"\x82\xff" + (1 << 20).to_bytes(8, "big") + MASK))
    assert not parser._pending
    for _ in range(100):
        list(parser.feed(b"x" * 100))
        assert not parser._pending


def test_nothing_is_parsed_after_close() -> None:
    assert events_of(FrameParser(), [frame(0x88) + frame(0x82, b"late"), frame(0x82, b"later")]) == [
        websocket.CloseFrame(None, "")
    ]


def test_accept_key_is_that_of_the_rfc() -> None:
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("key", ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "é" * 24, "AAAAAAAAAAAAAAAAAAAAAAA="])
def test_malformed_keys_are_not_accepted(key: str) -> None:
    assert websocket.accept_key(key) is None


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmask_is_xor_with_the_mask(payload: bytes, mask: bytes) -> None:
    assert websocket.unmask(payload, mask) == bytes(b ^ mask[at % 4] for at, b in enumerate(payload))


@given(st.text(max_size=200))
def test_a_long_reason_is_cut_at_a_character(reason: str) -> None:
    payload = websocket.close_frame(4401, reason)[2:]
    assert len(payload) <= websocket.MAX_CONTROL_BYTES
    assert reason.startswith(payload[2:].decode("utf-8"))


def test_a_control_frame_has_its_limit() -> None:
    with pytest.raises(ValueError, match="invalid control frame"):
        websocket.control_frame(Opcode.PING, bytes(126))
    with pytest.raises(ValueError, match="invalid control frame"):
        websocket.control_frame(Opcode.BINARY)


@given(
    st.lists(st.binary(max_size=12), max_size=3),
    st.sampled_from([0x82, 0x80, 0x02, 0x81, 0x89, 0x88]),
    st.binary(max_size=140),
    st.binary(max_size=3),
)
def test_a_whole_frame_is_what_the_parser_finds(
    before: list[bytes], first: int, payload: bytes, behind: bytes
) -> None:
    """A short frame by itself is parsed without events, wherever it occurs; any other is not."""
    quick, thorough = FrameParser(), FrameParser()
    wire = [frame(0x82, b"a"), *(frame(0x02 if at == 0 else 0x00, piece) for at, piece in enumerate(before))]
    for parser in (quick, thorough):
        assert events_of(parser, wire)
    data = frame(first, payload) + behind
    found = quick.whole_frame(data)
    if found is not None:
        assert list(thorough.feed(data)) == [DataFrame(found, is_final=True)]
        assert quick.whole_frame(frame(0x82, b"next")) == b"next", "it is between frames as before"
    elif first == 0x82 and len(payload) <= 125 and not behind:
        assert before, "only within a message it is left to the parser"


def test_a_frame_without_a_mask_is_left_to_the_parser() -> None:
    parser = FrameParser()
    assert parser.whole_frame(b"\x82\x04abcd") is None
    assert parser.whole_frame(b"\x82\x00abcd") is None
