# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-snapshot`."""

from __future__ import annotations

from benchmark.snapshot import MIB, moved_row, ratio_row


def test_a_snapshot_must_be_nearly_as_fast_as_a_copy() -> None:
    slow = ratio_row("snapshot", [1.3, 1.3, 1.0], [1.0, 1.0, 1.0], 512)
    fast = ratio_row("snapshot", [1.2, 1.2, 9.0], [1.0, 1.0, 1.0], 512)
    assert (slow["holds"], fast["holds"]) == (False, True)
    assert (fast["ours"], fast["peer"]) == (426.7, 512.0)


def test_an_increment_must_move_little_more_than_what_changed() -> None:
    assert moved_row(int(2.1 * MIB), 2 * MIB)["holds"]
    assert not moved_row(int(2.4 * MIB), 2 * MIB)["holds"]
