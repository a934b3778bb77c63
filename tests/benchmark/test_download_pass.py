# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-download-pass`."""

from __future__ import annotations

from benchmark.download_pass import rows


def test_a_pass_of_constant_cost_is_within_the_limit() -> None:
    table = rows({100: (4, 6.0), 10_000: (4, 9.0)})
    assert [(row["queries"], row["ms_bar"], row["holds"]) for row in table] == [(4, 17.0, True)] * 2


def test_a_pass_that_grows_in_queries_or_duration_is_not() -> None:
    assert [row["holds"] for row in rows({100: (4, 6.0), 10_000: (10_006, 8.0)})] == [True, False]
    assert [row["holds"] for row in rows({100: (4, 6.0), 10_000: (4, 4200.0)})] == [True, False]
