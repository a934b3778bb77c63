# SPDX-License-Identifier: Apache-2.0
"""Measures of a program's activity: CPU time and bytes written."""

from __future__ import annotations

import os
import time
from pathlib import Path

from systemvm.lab import activity


def test_cpu_time_of_a_process_is_0_after_its_end(tmp_path: Path) -> None:
    before = activity.cpu_ticks(os.getpid())
    end_s = time.process_time() + 0.05
    while time.process_time() < end_s:
        pass
    assert activity.cpu_ticks(os.getpid()) > before
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    assert activity.cpu_ticks_by_file(tmp_path / "pid") > before
    (tmp_path / "pid").write_text("")
    assert activity.cpu_ticks_by_file(tmp_path / "pid") == activity.cpu_ticks_by_file(tmp_path / "none") == 0


def test_a_process_name_with_blanks_and_parentheses_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (a b) c) S 1 7 7 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 5\n")
    assert activity.cpu_ticks(7, tmp_path) == 42


def test_the_size_of_a_missing_log_is_0(tmp_path: Path) -> None:
    assert activity.written_bytes(tmp_path / "log") == 0
    (tmp_path / "log").write_text("12345")
    assert activity.written_bytes(tmp_path / "log") == 5
