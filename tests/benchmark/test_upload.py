# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-upload`."""

from __future__ import annotations

from benchmark.download_peers import Cost
from benchmark.upload import ratio_row


def test_ratio_is_the_median_of_the_rounds() -> None:
    row = ratio_row("tus", [Cost(1.0, 2.0), Cost(2.0, 2.0), Cost(1.0, 2.0)], [Cost(0.95, 1.0)] * 3)
    assert (row["ratio"], row["holds"], row["upload"], row["download"]) == (0.95, True, 1.0, 0.95)


def test_an_upload_that_takes_much_longer_does_not_hold() -> None:
    assert not ratio_row("tus", [Cost(1.0, 1.0)], [Cost(0.7, 1.0)])["holds"]
