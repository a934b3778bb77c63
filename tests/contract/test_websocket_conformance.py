# SPDX-License-Identifier: Apache-2.0
"""The CPVM's WebSocket engine answers every case of RFC 6455 as it must, however the bytes arrive.

Its answers are read by wsproto, which checks the server's frames.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from websocket_cases import TEXT, Answer, Case, cases, cut, fragments, frame
from websocket_echo import WebSocketEcho

CASES = cases()
#: What one read of the transport returns at most.
_READ_BYTES = 16 * 1024
_OCTETS_UP_TO = 2000


def arrivals(case: Case) -> Iterator[list[bytes]]:
    """Yield the ways in which a case's bytes can arrive."""
    wire = b"".join(case.frames)
    yield cut(wire, _READ_BYTES)
    if len(case.frames) < 2000:
        yield [piece for each in case.frames for piece in cut(each, _READ_BYTES)]
    if len(wire) <= _OCTETS_UP_TO:
        yield cut(wire, 1)
    elif len(wire) < 1 << 20:
        yield cut(wire, 997)


def answers_to(pieces: list[bytes]) -> list[Answer]:
    """Return what a client receives; a message that does not end is none."""
    server, client = WebSocketEcho(), Connection(ConnectionType.CLIENT)
    received: list[Answer] = []
    parts: list[bytes] = []
    for piece in pieces:
        client.receive_data(server.receive(piece))
        for event in client.events():
            match event:
                case TextMessage():
                    parts.append(event.data.encode("utf-8"))
                case BytesMessage():
                    parts.append(bytes(event.data))
                case Pong():
                    received.append(("pong", bytes(event.payload)))
                case Ping():
                    received.append(("ping", bytes(event.payload)))
                case CloseConnection():
                    received.append(("close", event.code))
            if isinstance(event, (TextMessage, BytesMessage)) and event.message_finished:
                received.append(("text" if isinstance(event, TextMessage) else "binary", b"".join(parts)))
                parts.clear()
    return received


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for subject in CASES.values() for case in subject]
    assert len(set(names)) == len(names) > 500


@pytest.mark.parametrize("subject", CASES)
def test_answers_are_those_of_the_rfc(subject: str) -> None:
    wrong = {
        case.name: answers
        for case in CASES[subject]
        for pieces in arrivals(case)
        if (answers := answers_to(pieces)) != case.answers
    }
    assert not wrong


@pytest.mark.parametrize("bad", [b"\xf4\x90", b"\xc0", b"\xed\xa0\x80", b"\xf8", b"\xff"])
def test_text_is_refused_at_the_first_wrong_byte(bad: bytes) -> None:
    """The rest of the frame, and of the message, need not arrive."""
    whole = frame(TEXT, b"before " + bad + b"x" * 1000)
    assert answers_to([whole[: 2 + 2 + 4 + 7 + len(bad)]]) == [("close", 1007)]
    assert answers_to(fragments(TEXT, b"before ", bad, b"after")[:2]) == [("close", 1007)]


def test_any_arrival_gives_the_same_answers() -> None:
    chance = random.Random(6455)
    every = [case for subject in CASES.values() for case in subject]
    small = [case for case in every if len(b"".join(case.frames)) <= _OCTETS_UP_TO]
    for case in chance.sample(small, 200):
        wire = b"".join(case.frames)
        at = sorted(chance.choices(range(len(wire) + 1), k=3))
        pieces = [wire[start:end] for start, end in zip([0, *at], [*at, len(wire)], strict=True)]
        assert answers_to(pieces) == case.answers, case.name
