# SPDX-License-Identifier: Apache-2.0
"""Timers of a reactor when the wall clock jumps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import LoopingCall

from systemvm.service.monotonic_clock import use_monotonic_clock

AGENTS = Path(__file__).resolve().parents[3] / "agents"


def test_timers_follow_only_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor, now_s, fired = EPollReactor(), [100.0], list[str]()
    use_monotonic_clock(reactor, lambda: now_s[0])
    reactor.callLater(10, fired.append, "later")
    loop = LoopingCall(fired.append, "again")
    loop.clock = reactor
    loop.start(7200, now=False)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    reactor.runUntilCurrent()
    assert fired == []
    now_s[0] += 10
    reactor.runUntilCurrent()
    assert fired == ["later"]
    now_s[0] += 7200
    reactor.runUntilCurrent()
    assert fired == ["later", "again"]
    loop.stop()


def test_calls_that_are_scheduled_before_are_rejected() -> None:
    reactor = EPollReactor()
    call = reactor.callLater(10, list)
    with pytest.raises(ValueError, match="scheduled"):
        use_monotonic_clock(reactor)
    call.cancel()
    use_monotonic_clock(reactor)
    assert reactor.seconds is time.monotonic


def test_every_program_with_a_reactor_uses_the_monotonic_clock() -> None:
    programs = [path for path in AGENTS.rglob("*.py") if "reactor.run" in path.read_text()]
    assert len(programs) >= 5
    for program in programs:
        assert "use_monotonic_clock(" in program.read_text(), program
