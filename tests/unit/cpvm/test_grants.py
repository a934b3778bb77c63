# SPDX-License-Identifier: Apache-2.0
"""Console sessions: which browser may connect, and when a session ends."""

from __future__ import annotations

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from systemvm.cpvm.grants import FIRST_CONNECTION_S, MAX_ENDED, WAITING_FACTOR, Grants
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.wire.console import ConsoleSession, SessionLimits

HOME = "198.51.100.7"


class Harness:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ended: list[tuple[str, BrowserRefusal]] = []
        self.grants = Grants(
            self.clock.seconds,
            lambda grant, refusal, _: self.ended.append((grant.session.session_id, refusal)),
            SessionLimits(max_sessions=5),
        )

    def refusal(self, session_id: str, secret: str | None, address: str = HOME) -> BrowserRefusal:
        with pytest.raises(ConsoleRefusedError) as refused:
            self.grants.claim(session_id, secret, address)
        return refused.value.refusal

    def connect(self, session_id: str, secret: str) -> str:
        """Connect as a browser does, and return its next secret."""
        session, fresh = self.grants.claim(session_id, secret, HOME)
        assert session.session_id == session_id
        self.grants.connected(session_id)
        self.grants.confirmed(session_id)
        return fresh

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.grants.sweep()


@pytest.fixture
def harness() -> Harness:
    return Harness()


def session(session_id: str, lifetime_s: float = 3600) -> ConsoleSession:
    return ConsoleSession(session_id, f"vm-{session_id}", "web", lifetime_s)


def test_the_browser_that_used_the_token_can_connect_again(harness: Harness) -> None:
    secret = harness.grants.admit(session("a"), HOME)
    for _ in range(3):
        secret = harness.connect("a", secret)
        harness.grants.disconnected("a", None, "left")
    assert harness.ended == []


def test_other_browsers_cannot_connect(harness: Harness) -> None:
    harness.grants.admit(session("a"), HOME)
    other = harness.grants.admit(session("b"), HOME)
    for secret in (other, "guess", "", None):
        assert harness.refusal("a", secret) is BrowserRefusal.SESSION_ENDED
    assert harness.refusal("none", other) is BrowserRefusal.SESSION_ENDED


def test_a_secret_of_before_is_refused(harness: Harness) -> None:
    first = harness.grants.admit(session("a"), HOME)
    second = harness.connect("a", first)
    assert harness.refusal("a", first) is BrowserRefusal.CONTINUED_ELSEWHERE
    harness.grants.disconnected("a", None, "blip")
    assert harness.refusal("a", first) is BrowserRefusal.CONTINUED_ELSEWHERE
    harness.connect("a", second)


def test_of_two_racing_connections_one_wins(harness: Harness) -> None:
    first = harness.grants.admit(session("a"), HOME)
    _, winner = harness.grants.claim("a", first, HOME)
    harness.grants.connected("a")
    assert harness.refusal("a", first) is BrowserRefusal.RECONNECTING
    harness.grants.confirmed("a")
    assert harness.refusal("a", first) is BrowserRefusal.CONTINUED_ELSEWHERE
    harness.connect("a", winner)


def test_after_a_lost_response_the_browser_can_try_again(harness: Harness) -> None:
    first = harness.grants.admit(session("a"), HOME)
    harness.grants.claim("a", first, HOME)
    harness.grants.connected("a")
    harness.grants.disconnected("a", None, "the network was gone")
    harness.connect("a", first)


def test_a_session_waits_for_its_browser_and_then_ends_once(harness: Harness) -> None:
    secret = harness.connect("a", harness.grants.admit(session("a"), HOME))
    harness.grants.disconnected("a", None, "blip")
    harness.advance(59)
    secret = harness.connect("a", secret)
    harness.advance(600)
    assert harness.ended == [], "a connected session waits for nothing"
    harness.grants.disconnected("a", None, "blip")
    harness.advance(60)
    harness.advance(60)
    assert harness.ended == [("a", BrowserRefusal.NOT_BACK)]
    assert harness.refusal("a", secret) is BrowserRefusal.NOT_BACK
    assert harness.grants.session_ids() == []


def test_a_console_whose_machine_does_not_run_waits_longer(harness: Harness) -> None:
    harness.connect("a", harness.grants.admit(session("a"), HOME))
    harness.grants.disconnected("a", BrowserRefusal.MACHINE_STOPPED, "stopped")
    harness.advance(WAITING_FACTOR * 60 - 1)
    assert harness.ended == []
    harness.advance(1)
    assert harness.ended == [("a", BrowserRefusal.NOT_BACK)]


def test_without_a_window_a_session_ends_with_its_connection(harness: Harness) -> None:
    harness.grants.limits = evolve(harness.grants.limits, reconnect_s=0)
    secret = harness.grants.admit(session("a"), HOME)
    harness.advance(FIRST_CONNECTION_S - 1)
    harness.connect("a", secret)
    harness.grants.disconnected("a", None, "left")
    assert harness.ended == [("a", BrowserRefusal.SESSION_ENDED)]


def test_an_unconnected_session_ends_with_its_time(harness: Harness) -> None:
    secret = harness.grants.admit(session("a", 20), HOME)
    assert harness.grants.lifetime_left_s("a") == 20
    harness.clock.advance(20)
    assert harness.refusal("a", secret) is BrowserRefusal.SESSION_ENDED
    harness.grants.sweep()
    assert harness.ended == [("a", BrowserRefusal.SESSION_OVER)]


def test_a_session_without_secret_lives_as_long_as_its_connection(harness: Harness) -> None:
    harness.grants.admit_once(session("a"), HOME)
    harness.grants.connected("a")
    harness.advance(600)
    assert harness.ended == []
    assert harness.refusal("a", None) is BrowserRefusal.SESSION_ENDED
    harness.grants.disconnected("a", None, "left")
    assert harness.ended == [("a", BrowserRefusal.SESSION_ENDED)]


def test_the_number_of_sessions_is_limited(harness: Harness) -> None:
    for number in range(5):
        harness.grants.admit(session(str(number)), HOME)
    assert harness.grants.is_full
    with pytest.raises(ConsoleRefusedError) as refused:
        harness.grants.admit(session("one more"), HOME)
    assert refused.value.refusal is BrowserRefusal.TOO_MANY
    assert harness.ended == [("one more", BrowserRefusal.TOO_MANY)]
    harness.grants.limits = evolve(harness.grants.limits, max_sessions=6)
    harness.grants.admit(session("now"), HOME)


def test_a_place_is_found_without_looking_at_all_sessions(harness: Harness) -> None:
    harness.grants.admit(session("lost"), HOME)
    harness.clock.advance(3601)
    for session_id in "abcd":
        assert not harness.grants.is_full
        harness.grants.admit(session(session_id), HOME)
        assert harness.ended == []
    harness.grants.admit(session("e"), HOME)  # there is no other place left
    assert harness.ended == [("lost", BrowserRefusal.SESSION_OVER)]


def test_only_its_own_browser_receives_the_reason_of_a_sessions_end(harness: Harness) -> None:
    secret = harness.grants.admit(session("a", 60), HOME)
    harness.grants.end("a", "logged out", BrowserRefusal.LOGGED_OUT)
    assert harness.ended == [("a", BrowserRefusal.LOGGED_OUT)]
    assert harness.refusal("a", secret) is BrowserRefusal.LOGGED_OUT
    for other in (harness.grants.admit(session("b"), HOME), "guess", None):
        assert harness.refusal("a", other) is BrowserRefusal.SESSION_ENDED
    harness.advance(60)
    assert harness.refusal("a", secret) is BrowserRefusal.SESSION_ENDED


def test_the_number_of_remembered_ended_sessions_is_limited(harness: Harness) -> None:
    secrets = []
    for number in range(MAX_ENDED + 1):
        secrets.append(harness.grants.admit(session(str(number)), HOME))
        harness.grants.end(str(number), "gone", BrowserRefusal.MACHINE_GONE)
    assert harness.refusal(str(MAX_ENDED), secrets[-1]) is BrowserRefusal.MACHINE_GONE
    assert harness.refusal("0", secrets[0]) is BrowserRefusal.SESSION_ENDED
    assert harness.refusal("1", secrets[1]) is BrowserRefusal.MACHINE_GONE


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
def test_a_bound_secret_is_valid_only_from_its_own_address(
    harness: Harness, opened_from: str, connects_from: str, is_allowed: bool
) -> None:
    secret = harness.grants.admit(session("a"), opened_from)
    assert harness.grants.find("a", secret, connects_from), "without binding, every address is allowed"
    harness.grants.binds_address = True
    if is_allowed:
        assert harness.grants.find("a", secret, connects_from)
    else:
        assert harness.refusal("a", secret, connects_from) is BrowserRefusal.OTHER_ADDRESS
    assert harness.grants.session_ids() == ["a"], "the session itself continues"


def test_who_watches_ends_with_the_session(harness: Harness) -> None:
    harness.grants.admit(session("a"), HOME)
    watcher = evolve(session("w"), watches="a")
    harness.grants.admit(watcher, HOME)
    assert harness.grants.watchers_of("a") == ["w"]
    harness.grants.end("w", "left")
    assert harness.grants.watchers_of("a") == []
    harness.grants.admit(evolve(watcher, session_id="v"), HOME)
    seen: list[list[str]] = []
    harness.grants.on_ended = lambda *_: seen.append(harness.grants.watchers_of("a"))
    harness.grants.end("a", "closed")
    assert seen == [["v"]], "they are known while the session ends"
    assert harness.grants.watchers_of("a") == []


def test_a_session_that_has_ended_cannot_be_watched(harness: Harness) -> None:
    with pytest.raises(ConsoleRefusedError) as refused:
        harness.grants.admit(evolve(session("w"), watches="a"), HOME)
    assert refused.value.refusal is BrowserRefusal.WATCHED_ENDED
    assert harness.ended == [("w", BrowserRefusal.WATCHED_ENDED)], "the daemon is told"
