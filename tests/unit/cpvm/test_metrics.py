# SPDX-License-Identifier: Apache-2.0
"""What a console proxy counts."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from systemvm.cpvm.metrics import ConsoleMetrics, timed
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.service.metrics import Histogram, Metric


def found(counted: ConsoleMetrics) -> dict[str, Metric]:
    shown = counted.metrics(sessions=3, connected=2, places=50, is_draining=True)
    return {metric.name.removeprefix("systemvm_console_"): metric for metric in shown}


def test_counts_are_shown_by_name_and_reason() -> None:
    counted = ConsoleMetrics()
    counted.add_bytes(1000, 10)
    counted.add_bytes(500, 5)
    counted.refuse(BrowserRefusal.TOKEN_USED)
    counted.refuse(BrowserRefusal.TOKEN_USED)
    counted.end(BrowserRefusal.SESSION_IDLE)
    counted.screens.observe(0.2)
    shown = found(counted)
    assert shown["sent_bytes"].values == {"": 1500}
    assert shown["received_bytes"].values == {"": 15}
    assert (shown["refusals"].label, shown["refusals"].values) == ("reason", {"token_used": 2})
    assert shown["session_ends"].values == {"session_idle": 1}
    assert shown["opened"].values == {"": 1}
    now = ("sessions", "connected_sessions", "sessions_max", "draining")
    assert [shown[name].values[""] for name in now] == [3, 2, 50, True]


def test_every_value_has_its_bucket() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.2, 1.0, 1.1):
        histogram.observe(value)
    assert histogram.buckets == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert histogram.total == pytest.approx(2.4)


def test_the_time_of_an_answer_is_observed() -> None:
    clock, histogram = Clock(), Histogram((0.1, 1.0))
    answer: Deferred[str] = Deferred()
    waiting = Deferred.fromCoroutine(timed(answer, histogram, clock.seconds))
    clock.advance(0.5)
    answer.callback("valid")
    assert waiting.result == "valid"
    assert histogram.buckets == [("0.1", 0), ("1.0", 1), ("+Inf", 1)]


def test_a_failure_is_not_observed() -> None:
    histogram = Histogram()
    failed = Deferred.fromCoroutine(timed(fail(KeyError()), histogram, Clock().seconds))
    failed.addErrback(lambda failure: failure.trap(KeyError))
    assert histogram.count == 0
    assert Deferred.fromCoroutine(timed(succeed(1), histogram, Clock().seconds)).result == 1
