# SPDX-License-Identifier: Apache-2.0
"""Which browser may open what, and when a session is over."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from systemvm.cpvm.grants import MAX_SESSIONS, Grants
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.wire.console import ConsoleSession

HOME = "198.51.100.7"


class Lab:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ended: list[tuple[str, str]] = []
        self.grants = Grants(self.clock.seconds, lambda session, why: self.ended.append((session, why)))

    def refusal(self, session_id: str, cookie: str | None) -> BrowserRefusal:
        with pytest.raises(ConsoleRefusedError) as refused:
            self.grants.find(session_id, cookie, HOME)
        return refused.value.refusal


@pytest.fixture
def lab() -> Lab:
    return Lab()


def session(session_id: str, lifetime_s: float = 60) -> ConsoleSession:
    return ConsoleSession(session_id, f"vm-{session_id}", "web", lifetime_s)


def test_the_browser_that_spent_the_token_may_connect_again(lab: Lab) -> None:
    cookie = lab.grants.admit(session("a"), None, HOME)
    assert len(cookie) >= 40
    for _ in range(3):
        assert lab.grants.find("a", cookie, HOME).session_id == "a"
        lab.grants.connected("a")
        lab.grants.disconnected("a", "left")
    assert lab.ended == []


def test_other_browsers_may_not_connect(lab: Lab) -> None:
    lab.grants.admit(session("a"), None, HOME)
    other = lab.grants.admit(session("b"), None, HOME)
    assert lab.refusal("a", other) is BrowserRefusal.OTHER_MACHINE
    assert lab.refusal("a", "guess") is BrowserRefusal.SESSION_ENDED
    assert lab.refusal("a", "") is BrowserRefusal.SESSION_ENDED
    assert lab.refusal("a", None) is BrowserRefusal.SESSION_ENDED


def test_a_known_browser_keeps_its_cookie_and_an_unknown_one_gets_a_new_one(lab: Lab) -> None:
    cookie = lab.grants.admit(session("a"), None, HOME)
    assert lab.grants.admit(session("b"), cookie, HOME) == cookie
    assert lab.grants.find("a", cookie, HOME)
    assert lab.grants.find("b", cookie, HOME)
    planted = lab.grants.admit(session("c"), "planted", HOME)
    assert planted != "planted"


def test_the_lifetime_ends_new_connections_and_not_open_ones(lab: Lab) -> None:
    cookie = lab.grants.admit(session("a", 60), None, HOME)
    lab.grants.connected("a")
    assert lab.grants.lifetime_left_s(cookie) == 60
    lab.clock.advance(61)
    assert lab.refusal("a", cookie) is BrowserRefusal.SESSION_ENDED
    lab.grants.sweep()
    assert lab.ended == []
    lab.grants.disconnected("a", "the browser left")
    assert lab.ended == [("a", "the browser left")]
    lab.grants.disconnected("a", "again")
    lab.grants.sweep()
    assert len(lab.ended) == 1


def test_an_idle_session_ends_with_its_lifetime(lab: Lab) -> None:
    lab.grants.admit(session("a", 60), None, HOME)
    lab.clock.advance(59)
    lab.grants.sweep()
    assert lab.ended == []
    lab.clock.advance(1)
    lab.grants.sweep()
    assert lab.ended == [("a", "its lifetime is over")]
    assert lab.grants.session_ids() == []


def test_a_session_without_cookie_lives_as_long_as_its_connection(lab: Lab) -> None:
    lab.grants.admit_once(session("a"))
    lab.grants.connected("a")
    lab.grants.sweep()
    assert lab.ended == []
    assert lab.refusal("a", None) is BrowserRefusal.SESSION_ENDED
    lab.grants.disconnected("a", "left")
    assert lab.ended == [("a", "left")]


def test_a_session_lives_while_one_connection_remains(lab: Lab) -> None:
    lab.grants.admit_once(session("a"))
    lab.grants.connected("a")
    lab.grants.connected("a")
    lab.grants.disconnected("a", "left")
    assert lab.ended == []


def test_the_number_of_sessions_is_limited(lab: Lab) -> None:
    for number in range(MAX_SESSIONS):
        lab.grants.admit_once(session(str(number)))
        lab.grants.connected(str(number))
    with pytest.raises(ConsoleRefusedError) as refused:
        lab.grants.admit(session("one more"), None, HOME)
    assert refused.value.refusal is BrowserRefusal.TOO_MANY
    assert lab.ended == [("one more", "too many sessions")]


def test_no_cookie_is_stored_in_clear_text(lab: Lab) -> None:
    cookie = lab.grants.admit(session("a"), None, HOME)
    assert cookie not in repr(lab.grants)
    assert cookie not in repr(lab.grants._grants)


def test_only_its_own_browser_learns_why_a_session_ended(lab: Lab) -> None:
    cookie = lab.grants.admit(session("a", 60), None, HOME)
    lab.grants.end("a", "logged out", BrowserRefusal.LOGGED_OUT)
    assert lab.ended == [("a", "logged out")]
    assert lab.refusal("a", cookie) is BrowserRefusal.LOGGED_OUT
    for other in (lab.grants.admit(session("b"), None, HOME), "guess", None):
        assert lab.refusal("a", other) in (BrowserRefusal.SESSION_ENDED, BrowserRefusal.OTHER_MACHINE)
    lab.clock.advance(60)
    lab.grants.sweep()
    assert lab.refusal("a", cookie) is BrowserRefusal.SESSION_ENDED


def test_the_number_of_remembered_ended_sessions_is_limited(lab: Lab) -> None:
    cookies = [lab.grants.admit(session(str(number)), None, HOME) for number in range(MAX_SESSIONS)]
    for number in range(MAX_SESSIONS):
        lab.grants.end(str(number), "gone", BrowserRefusal.MACHINE_GONE)
    newest = lab.grants.admit(session("newest"), None, HOME)
    lab.grants.end("newest", "gone", BrowserRefusal.MACHINE_GONE)
    assert lab.refusal("newest", newest) is BrowserRefusal.MACHINE_GONE
    assert lab.refusal("0", cookies[0]) is BrowserRefusal.SESSION_ENDED
    assert lab.refusal("1", cookies[1]) is BrowserRefusal.MACHINE_GONE


@pytest.mark.parametrize(
    ("opened", "comes", "passes"),
    [
        (HOME, HOME, True),
        (HOME, "198.51.100.8", False),
        (HOME, f"::ffff:{HOME}", True),
        ("2001:db8:0:1::7", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::7", "2001:db8:0:2::7", False),
    ],
)
def test_a_bound_cookie_is_valid_only_from_its_own_address(
    lab: Lab, opened: str, comes: str, passes: bool
) -> None:
    cookie = lab.grants.admit(session("a"), None, opened)
    assert lab.grants.find("a", cookie, comes), "and otherwise from everywhere"
    lab.grants.binds_address = True
    if passes:
        assert lab.grants.find("a", cookie, comes)
    else:
        with pytest.raises(ConsoleRefusedError) as refused:
            lab.grants.find("a", cookie, comes)
        assert refused.value.refusal is BrowserRefusal.OTHER_ADDRESS
    assert lab.grants.session_ids() == ["a"], "the session itself goes on"
