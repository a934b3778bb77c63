# SPDX-License-Identifier: Apache-2.0
"""What `make bench-api` reads from wrk's report, and when its second table counts."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import api, report
from benchmark.api import Measured, parse
from benchmark.api_daemon import REPORT_INTERVAL_S

REPORT = """Running 3s test @ http://127.0.0.1:34181
  Latency Distribution
     50%  417.00us
     75%    2.10ms
     90%  275.13ms
     99%    1.14s \t
  4371 requests in 3.04s, 100.80MB read
Requests/sec:   1439.65
"""


def test_latencies_and_rate_are_read_in_their_units() -> None:
    assert parse(REPORT) == Measured(1439.65, 0.417, 1140.0)


@pytest.mark.parametrize(
    "report",
    ["", REPORT + "  Non-2xx or 3xx responses: 3\n", REPORT + "  Socket errors: connect 0, read 1\n"],
    ids=["nothing", "errors", "lost connections"],
)
def test_a_run_with_failed_requests_counts_for_nothing(report: str) -> None:
    with pytest.raises(ValueError, match="nothing that can be used"):
        parse(report)


def test_a_page_must_not_be_asked_for_twice_between_two_reports() -> None:
    each_once_per_s = 50 / REPORT_INTERVAL_S
    assert not api.repeats(Measured(each_once_per_s, 1.0, 1.0), 50)
    assert api.repeats(Measured(each_once_per_s + 1, 1.0, 1.0), 50)


def without_peers(monkeypatch: pytest.MonkeyPatch, greedy_returncode: int | None) -> None:
    """Let a run have neither a daemon nor wrk."""
    greedy = SimpleNamespace(poll=lambda: greedy_returncode, returncode=greedy_returncode)
    monkeypatch.setattr(api, "daemon", lambda *_, **__: nullcontext(("http://127.0.0.1", [])))
    monkeypatch.setattr(api, "loading", lambda *_: nullcontext(greedy))
    monkeypatch.setattr(api, "load", lambda *_: Measured(10.0, 1.0, 2.0))


def test_fairness_needs_a_greedy_client_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    without_peers(monkeypatch, None)
    assert [row["p50_ratio"] for row in api.measure_fairness((1, 1, 1), 1)] == [1.0, 1.0]
    without_peers(monkeypatch, 0)
    with pytest.raises(ValueError, match="greedy client ended with 0"):
        api.measure_fairness((1, 1, 1), 1)


def test_the_second_table_alone_leaves_the_result_of_a_whole_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_peers(monkeypatch, None)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["api.py", "--only-fairness"])
    assert api.main() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["api-fairness.json"]
    assert len(json.loads((tmp_path / "api-fairness.json").read_text())["rows"]) == 2
