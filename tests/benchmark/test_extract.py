# SPDX-License-Identifier: Apache-2.0
"""The verdict of `make bench-extract` is computed from the rounds."""

from __future__ import annotations

from benchmark.extract import BAR, ServerCost, row


def costs(*walls_s: float) -> list[ServerCost]:
    return [ServerCost(wall_s, 0.1) for wall_s in walls_s]


def test_ratio_is_the_median_of_the_rounds() -> None:
    found = row(costs(1.0, 1.0, 2.0), costs(1.0, 0.98, 2.2), 1)
    assert (found["ratio"], found["holds"]) == (1.0, True)


def test_bar_does_not_hold_below_it() -> None:
    assert not row(costs(1.0), costs(BAR - 0.01), 1)["holds"]
    assert row(costs(1.0), costs(BAR), 1)["holds"]
