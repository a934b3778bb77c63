# SPDX-License-Identifier: Apache-2.0
"""A console server that is killed at any moment, and the one that continues with its file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from systemvm.cpvm import session_journal
from systemvm.cpvm.drain import Drain
from systemvm.cpvm.grants import SAVE_EVERY_S, WAITING_FACTOR, Grants
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.state_keeper import StateKeeper
from systemvm.wire.console import ConsolePolicy, ConsoleSession, ConsoleTarget, SessionLimits

HOME = "198.51.100.7"


class Server:
    """Grants, drain and their file, as in a process; a kill is that nothing of it is used any more."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.ended: list[tuple[str, BrowserRefusal]] = []
        self.drained = 0
        self.grants = Grants(
            clock.seconds, lambda grant, refusal, _: self.ended.append((grant.session.session_id, refusal))
        )
        self.drain = Drain(clock, self._end_all)
        self.keeper = StateKeeper(path, self.grants, self.drain)
        self.keeper.restore()

    def _end_all(self) -> None:
        self.drained += 1

    def refusal(self, session_id: str, secret: str | None) -> BrowserRefusal:
        with pytest.raises(ConsoleRefusedError) as refused:
            self.grants.find(session_id, secret, HOME)
        return refused.value.refusal


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "systemvm-agent/consoles"


def session(session_id: str, lifetime_s: float = 3600) -> ConsoleSession:
    return ConsoleSession(session_id, f"vm-{session_id}", "web", lifetime_s, ConsolePolicy(view_only=True))


def test_a_session_continues_with_its_last_secret(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    first = server.grants.admit(session("a"), HOME)
    _, second = server.grants.claim("a", first, HOME)
    server.grants.connected("a")
    server.grants.confirmed("a")
    grants = Server(path, clock).grants
    assert grants.find("a", second, HOME).session == session("a")
    assert grants.lifetime_left_s("a") == 3600
    with pytest.raises(ConsoleRefusedError) as refused:
        grants.find("a", first, HOME)
    assert refused.value.refusal is BrowserRefusal.CONTINUED_ELSEWHERE


def test_a_kill_before_the_browser_has_answered_leaves_it_both_secrets(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    first = server.grants.admit(session("a"), HOME)
    _, second = server.grants.claim("a", first, HOME)
    server.grants.connected("a")
    after = Server(path, clock)
    assert after.grants.find("a", first, HOME)
    _, third = after.grants.claim("a", second, HOME)
    after.grants.connected("a")
    after.grants.confirmed("a")
    last = Server(path, clock)
    assert last.grants.find("a", third, HOME)
    for old in (first, second):
        assert last.refusal("a", old) is BrowserRefusal.CONTINUED_ELSEWHERE


def test_browsers_have_time_from_when_they_can_connect(path: Path, clock: Clock) -> None:
    Server(path, clock).grants.admit(session("a"), HOME)
    after = Server(path, clock)
    clock.advance(3000)  # until the daemon sends the certificate
    after.grants.sweep()
    assert after.ended == []
    after.grants.wait_for_browsers()
    after.grants.wait_for_browsers()
    clock.advance(WAITING_FACTOR * 60 - 1)
    after.grants.sweep()
    assert after.ended == []
    clock.advance(1)
    after.grants.sweep()
    assert after.ended == [("a", BrowserRefusal.NOT_BACK)]


def test_what_has_ended_stays_ended(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    secrets = {name: server.grants.admit(session(name), HOME) for name in ("a", "b", "c")}
    server.grants.end("a", "taken over", BrowserRefusal.TAKEN_OVER)
    server.grants.end("b", "ended")
    after = Server(path, clock)
    assert after.grants.session_ids() == ["c"]
    assert after.refusal("a", secrets["a"]) is BrowserRefusal.TAKEN_OVER
    assert after.refusal("b", secrets["b"]) is BrowserRefusal.SESSION_ENDED
    clock.advance(3600)
    last = Server(path, clock)
    last.grants.sweep()
    assert last.ended == [("c", BrowserRefusal.SESSION_OVER)]


def test_a_program_cannot_come_back(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    server.grants.admit_once(session("program"), HOME)
    server.grants.connected("program")
    assert Server(path, clock).grants.session_ids() == []


def test_who_watched_goes_on_unless_the_session_is_lost(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    server.grants.admit(session("a"), HOME)
    server.grants.admit_once(session("program"), HOME)
    for name, watched in (("w", "a"), ("v", "program")):
        server.grants.admit(evolve(session(name), watches=watched), HOME)
    after = Server(path, clock)
    assert after.grants.watchers_of("a") == ["w"]
    assert after.ended == [("v", BrowserRefusal.WATCHED_ENDED)]


def test_without_a_window_sessions_end_with_the_process(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    server.grants.limits = SessionLimits(reconnect_s=0)
    server.keeper.save_proxy()
    server.grants.admit(session("a"), HOME)
    assert Server(path, clock).ended == [("a", BrowserRefusal.SESSION_ENDED)]


def test_limits_and_drain_continue(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    server.grants.limits = limits = SessionLimits(max_sessions=7)
    server.drain.begin(100.0)
    server.keeper.save_proxy()
    clock.advance(60)
    server.drain.stop()
    after = Server(path, clock)
    assert (after.grants.limits, after.drain.is_on) == (limits, True)
    clock.advance(40)
    assert after.drained == 1
    after.drain.undo()
    after.keeper.save_proxy()
    assert not Server(path, clock).drain.is_on


def test_traffic_is_saved_now_and_then(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    server.grants.admit(session("a"), HOME)
    server.grants.all()[0].sent_bytes = 4711
    server.grants.save_traffic("a")
    assert Server(path, clock).grants.all()[0].sent_bytes == 0
    clock.advance(SAVE_EVERY_S)
    server.grants.save_traffic("a")
    assert Server(path, clock).grants.all()[0].sent_bytes == 4711


def test_the_file_contains_no_secret_and_is_private(path: Path, clock: Clock) -> None:
    server = Server(path, clock)
    target = ConsoleTarget("10.0.0.1", 5901, "s3cr3t8x")
    first = server.grants.admit(evolve(session("a"), target=target), HOME)
    _, second = server.grants.claim("a", first, HOME)
    text = path.read_text()
    assert "vm-a" in text
    assert first not in text
    assert second not in text
    assert "s3cr3t8x" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "garbage", [b'{"session":{"ses', b"\xff\xfe\n", b"[]\n", b'{"session":{"source":7}}\n']
)
def test_what_cannot_be_read_loses_nothing_else(path: Path, clock: Clock, garbage: bytes) -> None:
    secret = Server(path, clock).grants.admit(session("a"), HOME)
    path.write_bytes(garbage.ljust(1) + b"\n" + path.read_bytes() + garbage)
    after = Server(path, clock)
    assert after.grants.find("a", secret, HOME)
    other = after.grants.admit(session("b"), HOME)
    assert Server(path, clock).grants.find("b", other, HOME), "the file was written anew"


def test_the_file_stays_short(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_journal, "LEAST_BYTES", 4096)
    server = Server(path, clock)
    secret = server.grants.admit(session("a"), HOME)
    for _ in range(200):
        _, secret = server.grants.claim("a", secret, HOME)
        server.grants.confirmed("a")
    assert path.stat().st_size < 16 * 4096
    assert Server(path, clock).grants.find("a", secret, HOME)


def test_without_space_consoles_go_on(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(path, clock)
    first = server.grants.admit(session("a"), HOME)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    server.grants.admit(session("b"), HOME)
    server.grants.admit(session("c"), HOME)
    monkeypatch.undo()
    assert len(server.grants.session_ids()) == 3
    assert Server(path, clock).grants.find("a", first, HOME), "the file of before is whole"
    server.grants.limits = evolve(server.grants.limits, max_sessions=60)
    server.keeper.save_proxy()
    assert Server(path, clock).grants.session_ids() == ["a", "b", "c"]
