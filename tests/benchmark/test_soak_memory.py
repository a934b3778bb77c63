# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make soak-memory`."""

from __future__ import annotations

from benchmark.soak_memory import rows


def test_memory_that_stays_is_within_the_limits() -> None:
    table = rows({"agent": {1000: 60.0, 2000: 70.0, 3000: 70.1, 4000: 70.0}})
    assert [each["holds"] for each in table] == [True, True]


def test_memory_that_grows_or_is_too_much_is_not() -> None:
    growing = rows({"agent": {1000: 50.0, 2000: 51.0, 3000: 52.0, 4000: 53.0}})
    assert [each["holds"] for each in growing] == [True, False]
    large = rows({"fetch": {1000: 81.0, 2000: 70.0, 3000: 70.0}})
    assert [each["holds"] for each in large] == [False, True]
