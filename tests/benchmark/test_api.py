# SPDX-License-Identifier: Apache-2.0
"""What `make bench-api` reads from wrk's report."""

from __future__ import annotations

import pytest

from benchmark.api import Measured, parse

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
