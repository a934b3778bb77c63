# SPDX-License-Identifier: Apache-2.0
"""When a console's time is over, when its user is warned, and what counts as input."""

from __future__ import annotations

import pytest
from attrs import evolve

from systemvm.cpvm.grants import Grant
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.cpvm.timeouts import is_input, is_typed, next_timeout, notice
from systemvm.wire.console import ConsoleSession, SessionLimits

LIMITS = SessionLimits(idle_timeout_s=300, warning_s=60)
REQUEST = bytes([3, 1]) + bytes(8)
KEY = bytes([4, 1, 0, 0, 0, 0, 0, 65])
POINTER = bytes([5, 0, 0, 9, 0, 9])


def grant(input_at_s: float = 0, expires_at_s: float = 3600) -> Grant:
    session = ConsoleSession("a", "vm-a", "web", expires_at_s)
    return Grant(session, expires_at_s, "", "", input_at_s, None, None)


def test_input_moves_the_end_of_an_unused_session_and_not_of_the_whole() -> None:
    timeout = next_timeout(grant(input_at_s=100), LIMITS)
    assert (timeout.at_s, timeout.refusal) == (400, BrowserRefusal.SESSION_IDLE)
    timeout = next_timeout(grant(input_at_s=3500), LIMITS)
    assert (timeout.at_s, timeout.refusal) == (3600, BrowserRefusal.SESSION_OVER)
    assert not timeout.is_due(3599.9)
    assert timeout.is_due(3600)


def test_without_an_idle_timeout_only_the_whole_ends() -> None:
    timeout = next_timeout(grant(), evolve(LIMITS, idle_timeout_s=0))
    assert timeout.refusal is BrowserRefusal.SESSION_OVER


def test_who_watches_is_not_idle() -> None:
    watching = grant()
    watching.session = evolve(watching.session, watches="b")
    assert next_timeout(watching, LIMITS).refusal is BrowserRefusal.SESSION_OVER


def test_the_user_is_warned_once_and_told_when_the_warning_no_longer_holds() -> None:
    unused = grant()
    assert notice(unused, LIMITS, 239) is None
    assert notice(unused, LIMITS, 240.5) == {"notice": "idle", "ends_in_s": 60}
    assert notice(unused, LIMITS, 250) is None
    unused.input_at_s = 251
    assert notice(unused, LIMITS, 252) == {"notice": "used"}
    assert notice(unused, LIMITS, 253) is None


def test_the_user_is_warned_of_the_end_of_the_whole_session() -> None:
    used = grant(input_at_s=3590)
    assert notice(used, LIMITS, 3595) == {"notice": "over", "ends_in_s": 5}
    assert notice(grant(), evolve(LIMITS, warning_s=0), 299) is None


@pytest.mark.parametrize(
    ("payload", "counts"),
    [
        (REQUEST, False),
        (REQUEST * 3, False),
        (b"", False),
        (KEY, True),
        (POINTER, True),
        (REQUEST + KEY, True),
        (REQUEST + POINTER * 5, True),  # as long as four requests
        (POINTER * 5, True),
    ],
)
def test_requests_for_the_screen_are_no_input(payload: bytes, counts: bool) -> None:
    assert is_input(payload) is counts


@pytest.mark.parametrize(
    "answer",
    [
        b"\x1b[24;80R",
        b"\x1b[0n",
        b"\x1b[?1;2c",
        b"\x1b[>0;276;0c",
        b"\x1b[?25;1$y",
        b"\x1b[8;24;80t",
        b"\x1bP1$r0m\x1b\\",
        b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
        b"\x1b]11;rgb:0000/0000/0000\x07",
        b"\x1b[24;80R\x1b[?1;2c",
    ],
)
def test_what_a_terminal_answers_is_not_typed(answer: bytes) -> None:
    assert not is_typed(answer)


@pytest.mark.parametrize(
    "keys",
    [
        b"a",
        b"\r",
        b"\x1b",
        b"\x1b[A",
        b"\x1b[1;5C",
        b"\x1b[15~",
        b"\x1bOP",
        b"\x1b[<0;4;5M",
        b"\x1b[24;80Rq",
        b"c",
    ],
)
def test_keys_and_the_pointer_are_typed(keys: bytes) -> None:
    assert is_typed(keys)


def test_the_longest_message_is_judged_at_once() -> None:
    """Nothing that a browser sends has to be tried in many ways."""
    assert is_typed(b"\x1b[1;1R" * 100_000 + b"x")
    assert is_typed(b"\x1b[" + b"1" * 1_000_000)
