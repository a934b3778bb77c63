# SPDX-License-Identifier: Apache-2.0
"""Console sessions: which browser may connect, and when a session ends."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from systemvm.cpvm.grants import MAX_SESSIONS, Grants
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.wire.console import ConsoleSession

HOME = "198.51.100.7"


class Harness:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ended: list[tuple[str, str]] = []
        self.grants = Grants(self.clock.seconds, lambda session, reason: self.ended.append((session, reason)))

    def refusal(self, session_id: str, cookie: str | None) -> BrowserRefusal:
        with pytest.raises(ConsoleRefusedError) as refused:
            self.grants.find(session_id, cookie, HOME)
        return refused.value.refusal


@pytest.fixture
def harness() -> Harness:
    return Harness()


def session(session_id: str, lifetime_s: float = 60) -> ConsoleSession:
    return ConsoleSession(session_id, f"vm-{session_id}", "web", lifetime_s)


def test_the_browser_that_used_the_token_can_connect_again(harness: Harness) -> None:
    cookie = harness.grants.admit(session("a"), None, HOME)
    assert len(cookie) >= 40
    for _ in range(3):
        assert harness.grants.find("a", cookie, HOME).session_id == "a"
        harness.grants.connected("a")
        harness.grants.disconnected("a", "left")
    assert harness.ended == []


def test_other_browsers_cannot_connect(harness: Harness) -> None:
    harness.grants.admit(session("a"), None, HOME)
    other = harness.grants.admit(session("b"), None, HOME)
    assert harness.refusal("a", other) is BrowserRefusal.OTHER_MACHINE
    assert harness.refusal("a", "guess") is BrowserRefusal.SESSION_ENDED
    assert harness.refusal("a", "") is BrowserRefusal.SESSION_ENDED
    assert harness.refusal("a", None) is BrowserRefusal.SESSION_ENDED


def test_a_known_browser_keeps_its_cookie_and_an_unknown_one_gets_a_new_one(harness: Harness) -> None:
    cookie = harness.grants.admit(session("a"), None, HOME)
    assert harness.grants.admit(session("b"), cookie, HOME) == cookie
    assert harness.grants.find("a", cookie, HOME)
    assert harness.grants.find("b", cookie, HOME)
    planted = harness.grants.admit(session("c"), "planted", HOME)
    assert planted != "planted"


def test_an_expired_session_rejects_new_connections_and_keeps_open_ones(harness: Harness) -> None:
    cookie = harness.grants.admit(session("a", 60), None, HOME)
    harness.grants.connected("a")
    assert harness.grants.lifetime_left_s(cookie) == 60
    harness.clock.advance(61)
    assert harness.refusal("a", cookie) is BrowserRefusal.SESSION_ENDED
    harness.grants.sweep()
    assert harness.ended == []
    harness.grants.disconnected("a", "the browser left")
    assert harness.ended == [("a", "the browser left")]
    harness.grants.disconnected("a", "again")
    harness.grants.sweep()
    assert len(harness.ended) == 1


def test_an_idle_session_ends_with_its_lifetime(harness: Harness) -> None:
    harness.grants.admit(session("a", 60), None, HOME)
    harness.clock.advance(59)
    harness.grants.sweep()
    assert harness.ended == []
    harness.clock.advance(1)
    harness.grants.sweep()
    assert harness.ended == [("a", "its lifetime is over")]
    assert harness.grants.session_ids() == []


def test_a_session_without_cookie_lives_as_long_as_its_connection(harness: Harness) -> None:
    harness.grants.admit_once(session("a"))
    harness.grants.connected("a")
    harness.grants.sweep()
    assert harness.ended == []
    assert harness.refusal("a", None) is BrowserRefusal.SESSION_ENDED
    harness.grants.disconnected("a", "left")
    assert harness.ended == [("a", "left")]


def test_a_session_lives_while_one_connection_remains(harness: Harness) -> None:
    harness.grants.admit_once(session("a"))
    harness.grants.connected("a")
    harness.grants.connected("a")
    harness.grants.disconnected("a", "left")
    assert harness.ended == []


def test_the_number_of_sessions_is_limited(harness: Harness) -> None:
    for number in range(MAX_SESSIONS):
        harness.grants.admit_once(session(str(number)))
        harness.grants.connected(str(number))
    with pytest.raises(ConsoleRefusedError) as refused:
        harness.grants.admit(session("one more"), None, HOME)
    assert refused.value.refusal is BrowserRefusal.TOO_MANY
    assert harness.ended == [("one more", "too many sessions")]


def test_no_cookie_is_stored_in_clear_text(harness: Harness) -> None:
    cookie = harness.grants.admit(session("a"), None, HOME)
    assert cookie not in repr(harness.grants)
    assert cookie not in repr(harness.grants._grants)


def test_only_its_own_browser_receives_the_reason_of_a_sessions_end(harness: Harness) -> None:
    cookie = harness.grants.admit(session("a", 60), None, HOME)
    harness.grants.end("a", "logged out", BrowserRefusal.LOGGED_OUT)
    assert harness.ended == [("a", "logged out")]
    assert harness.refusal("a", cookie) is BrowserRefusal.LOGGED_OUT
    for other in (harness.grants.admit(session("b"), None, HOME), "guess", None):
        assert harness.refusal("a", other) in (BrowserRefusal.SESSION_ENDED, BrowserRefusal.OTHER_MACHINE)
    harness.clock.advance(60)
    harness.grants.sweep()
    assert harness.refusal("a", cookie) is BrowserRefusal.SESSION_ENDED


def test_the_number_of_remembered_ended_sessions_is_limited(harness: Harness) -> None:
    cookies = [harness.grants.admit(session(str(number)), None, HOME) for number in range(MAX_SESSIONS)]
    for number in range(MAX_SESSIONS):
        harness.grants.end(str(number), "gone", BrowserRefusal.MACHINE_GONE)
    newest = harness.grants.admit(session("newest"), None, HOME)
    harness.grants.end("newest", "gone", BrowserRefusal.MACHINE_GONE)
    assert harness.refusal("newest", newest) is BrowserRefusal.MACHINE_GONE
    assert harness.refusal("0", cookies[0]) is BrowserRefusal.SESSION_ENDED
    assert harness.refusal("1", cookies[1]) is BrowserRefusal.MACHINE_GONE


@pytest.mark.parametrize(
    ("opened_from", "connects_from", "is_allowed"),
    [
        (HOME, HOME, True),
        (HOME, "198.51.100.8", False),
        (HOME, f"::ffff:{HOME}", True),
        ("2001:db8:0:1::7", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::7", "2001:db8:0:2::7", False),
    ],
)
def test_a_bound_cookie_is_valid_only_from_its_own_address(
    harness: Harness, opened_from: str, connects_from: str, is_allowed: bool
) -> None:
    cookie = harness.grants.admit(session("a"), None, opened_from)
    assert harness.grants.find("a", cookie, connects_from), "without binding, every address is allowed"
    harness.grants.binds_address = True
    if is_allowed:
        assert harness.grants.find("a", cookie, connects_from)
    else:
        with pytest.raises(ConsoleRefusedError) as refused:
            harness.grants.find("a", cookie, connects_from)
        assert refused.value.refusal is BrowserRefusal.OTHER_ADDRESS
    assert harness.grants.session_ids() == ["a"], "the session itself continues"
