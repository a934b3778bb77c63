# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-footprint`, and how it reads memory."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

from benchmark.download_footprint import jobs_row, metalink, percentile, row
from benchmark.download_load import memory_mib


def test_a_limit_is_the_most_that_holds() -> None:
    assert row("mover", 40.0, 40.0, "MiB")["holds"]
    assert not row("mover", 40.1, 40.0, "MiB")["holds"]


def test_jobs_that_did_not_run_at_the_same_time_prove_nothing() -> None:
    assert jobs_row(32, 900.0)["holds"]
    assert not jobs_row(32, 1025.0)["holds"]
    assert not jobs_row(31, 900.0)["holds"]


def test_percentile_is_a_value_that_occurred() -> None:
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_memory_of_a_process_is_read_and_one_that_ended_has_none() -> None:
    assert 1.0 < memory_mib(os.getpid(), "VmRSS") < 4096.0
    assert memory_mib(os.getpid(), "Pss", "smaps_rollup") > 1.0
    assert memory_mib(2**22 + 1, "VmRSS") == 0.0


def test_a_metalink_has_the_digest_of_each_piece(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(9 << 20))
    root = ElementTree.fromstring(metalink(tmp_path / "disk.raw", "http://203.0.113.10"))
    assert len(root.findall(".//{*}pieces/{*}hash")) == 3
