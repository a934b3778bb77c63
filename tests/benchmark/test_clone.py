# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-clone`."""

from __future__ import annotations

import time
from pathlib import Path

from benchmark.clone import MIB, Disk, rows, take


def test_a_clone_must_be_twenty_times_as_fast_as_a_copy() -> None:
    slow = rows([Disk(0.1, 0.2)] * 3, [Disk(1.9, 2048.0)] * 3, 2048)
    fast = rows([Disk(0.1, 0.2)] * 3, [Disk(2.1, 2048.0)] * 3, 2048)
    assert [each["holds"] for each in slow] == [False, True]
    assert [each["holds"] for each in fast] == [True, True]


def test_the_clone_that_wrote_most_counts() -> None:
    [_, written] = rows([Disk(0.1, 0.2), Disk(0.1, 1.1)], [Disk(9.0, 2.0)] * 2, 2048)
    assert (written["ours"], written["holds"]) == (1.1, False)


def test_the_size_of_a_disk_is_what_it_takes(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
        file.write(b"x")
    assert 0 < take(disk, time.monotonic()).written_mib < 1
    assert not disk.exists()
