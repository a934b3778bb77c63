# SPDX-License-Identifier: Apache-2.0
"""The rows of bench-download."""

from __future__ import annotations

from benchmark.download import SCENARIOS, ratio_row
from benchmark.download_peers import PEERS, Cost


def test_ratio_is_the_median_of_the_rounds() -> None:
    ours = [Cost(1.0, 0.5), Cost(2.0, 0.5), Cost(1.0, 0.5)]
    peer = [Cost(3.0, 1.0), Cost(2.0, 1.0), Cost(1.5, 1.0)]
    row = ratio_row("raw", ours, "curl", peer, 1.5)
    assert (row["ratio"], row["holds"]) == (1.5, True)


def test_ratio_below_the_bar_does_not_hold() -> None:
    assert not ratio_row("raw", [Cost(2.0, 1.0)], "curl", [Cost(2.0, 1.0)], 1.1)["holds"]


def test_every_bar_has_a_peer() -> None:
    assert all(name in PEERS for scenario in SCENARIOS for name in scenario.bars)
