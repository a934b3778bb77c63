# SPDX-License-Identifier: Apache-2.0
"""The wait before an attempt: its time, news, or an abort ends it."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from systemvm.ssvm.fetch.pause import Pause


def test_a_pause_ends_after_its_time() -> None:
    clock = Clock()
    waiting = Pause(clock).begin(30.0)
    clock.advance(29)
    assert not waiting.called
    clock.advance(1)
    assert waiting.called


def test_news_end_a_pause_and_only_one_that_runs() -> None:
    clock = Clock()
    pause = Pause(clock)
    pause.end()
    waiting = pause.begin(30.0)
    pause.end()
    assert waiting.called
    assert clock.getDelayedCalls() == []
    pause.end()
    assert not pause.begin(1.0).called


def test_an_abort_cancels_a_pause() -> None:
    clock = Clock()
    waiting = Pause(clock).begin(30.0)
    waiting.cancel()
    failed: list[object] = []
    waiting.addErrback(lambda failure: failed.append(failure.check(CancelledError)))
    assert failed == [CancelledError]
    assert clock.getDelayedCalls() == []
