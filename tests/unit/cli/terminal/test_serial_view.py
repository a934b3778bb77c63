# SPDX-License-Identifier: Apache-2.0
"""What a serial console shows of scroll-back, output and messages."""

from __future__ import annotations

import json

import pytest

from systemvm.cli.terminal.seen_output import TAIL_BYTES
from systemvm.cli.terminal.serial_view import SerialView

QUERY = b"\x1b[6n"


def opened(view: SerialView, history: bytes, *, answers: bool = True) -> bytes:
    view.connecting()
    assert not view.is_open
    view.notice(json.dumps({"notice": "serial", "scrollback": len(history), "answers": answers}))
    assert view.is_open
    return b"".join(view.received(history[at : at + 7]) for at in range(0, len(history), 7))


@pytest.fixture
def view() -> SerialView:
    return SerialView(is_terminal=True, shows_history=True)


def test_queries_of_the_scroll_back_are_never_answered_and_those_of_now_are(view: SerialView) -> None:
    assert opened(view, QUERY + b"login: ") == b"login: "
    assert view.received(QUERY) == QUERY


def test_another_consoles_answers_are_not_given_twice(view: SerialView) -> None:
    opened(view, b"", answers=False)
    assert view.received(b"a" + QUERY) == b"a"
    view.notice('{"notice": "answers"}')
    assert view.received(QUERY) == QUERY


def test_a_pipe_gets_every_byte() -> None:
    view = SerialView(is_terminal=False, shows_history=True)
    assert opened(view, QUERY, answers=False) == QUERY
    assert view.received(QUERY) == QUERY


def test_without_history_only_what_is_new_is_shown() -> None:
    view = SerialView(is_terminal=True, shows_history=False)
    assert opened(view, b"booted\r\n") == b""
    assert view.received(b"login: ") == b"login: "
    assert opened(view, b"booted\r\nlogin: root\r\n") == b"root\r\n", "written while the connection was lost"


@pytest.mark.parametrize(
    ("before", "history", "shown"),
    [
        (b"boot login: ", b"boot login: ", b""),
        (b"login: ", b"boot login: root", b"root"),
        (b"x" * 20 + b"y" * TAIL_BYTES, b"y" * 100 + b"z", b"z"),  # the scroll-back begins later
        (b"tick\r\n" * 3, b"tick\r\n" * 3 + b"tock", b"tock"),
        (b"of another boot", b"BIOS\r\n", b"BIOS\r\n"),
    ],
)
def test_a_reconnection_shows_what_was_missed(
    view: SerialView, before: bytes, history: bytes, shown: bytes
) -> None:
    opened(view, b"")
    view.received(before)
    assert opened(view, history) == shown


@pytest.mark.parametrize("text", ["", "[]", "7", "not JSON", '{"notice": 3}', '{"notice": "of the future"}'])
def test_messages_that_are_not_known_say_nothing(view: SerialView, text: str) -> None:
    assert view.notice(text) is None


def test_a_warning_is_said(view: SerialView) -> None:
    said = view.notice('{"notice": "idle", "ends_in_s": 60}')
    assert said is not None
    assert "60 s" in said
    assert view.notice('{"notice": "used"}') is None
