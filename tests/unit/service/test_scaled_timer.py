# SPDX-License-Identifier: Apache-2.0
"""Timeouts that grow with the slowness of the machine, also during the wait."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.service.scaled_timer import ScaledTimer, add_scaled_timeout


def test_a_timer_fires_on_time_on_ordinary_hardware() -> None:
    clock, fired = Clock(), []
    timer = ScaledTimer(clock, 10.0, lambda: fired.append(clock.seconds()), lambda: 1.0)
    clock.advance(9.9)
    assert not fired
    assert timer.active()
    clock.advance(0.1)
    assert fired == [10.0]
    assert not timer.active()


def test_a_timer_is_extended_when_the_machine_slows_down() -> None:
    clock, fired, scale = Clock(), [], 1.0
    ScaledTimer(clock, 10.0, lambda: fired.append(clock.seconds()), lambda: scale)
    clock.advance(5)
    scale = 3.0
    clock.pump([5, 19.9])
    assert not fired
    clock.advance(0.1)
    assert fired == [30.0]


def test_a_timer_is_not_shortened_when_the_machine_recovers() -> None:
    clock, fired, scale = Clock(), [], 3.0
    ScaledTimer(clock, 10.0, lambda: fired.append(clock.seconds()), lambda: scale)
    scale = 1.0
    clock.advance(30)
    assert fired == [30.0]


def test_a_cancelled_timer_does_not_fire() -> None:
    clock, fired = Clock(), []
    timer = ScaledTimer(clock, 10.0, lambda: fired.append(True), lambda: 1.0)
    timer.cancel()
    timer.cancel()
    clock.advance(100)
    assert not fired
    assert not clock.getDelayedCalls()


def test_a_deferred_that_is_late_is_cancelled_with_timeout_error() -> None:
    clock: Clock = Clock()
    waiting: Deferred[int] = Deferred()
    add_scaled_timeout(waiting, 2.0, clock, lambda: 2.0)
    clock.advance(3.9)
    assert not waiting.called
    clock.advance(0.1)
    failures: list[Failure] = []
    waiting.addErrback(failures.append)
    with pytest.raises(TimeoutError):
        failures[0].raiseException()


def test_a_deferred_that_fired_in_time_keeps_its_result() -> None:
    clock = Clock()
    done: Deferred[int] = Deferred()
    add_scaled_timeout(done, 2.0, clock, lambda: 1.0)
    done.callback(7)
    cancelled: Deferred[int] = Deferred()
    add_scaled_timeout(cancelled, 2.0, clock, lambda: 1.0)
    cancelled.cancel()
    results: list[object] = []
    done.addCallback(results.append)
    cancelled.addErrback(lambda failure: results.append(failure.type))
    assert results == [7, CancelledError]
    assert not clock.getDelayedCalls()
