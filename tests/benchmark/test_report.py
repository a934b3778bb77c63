# SPDX-License-Identifier: Apache-2.0
"""The tables, files and exit codes of benchmarks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from benchmark import report
from benchmark.report import show


def test_the_exit_code_is_that_of_the_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "bench")
    good = {"metric": "copy", "ours": 1.5, "bar": 2.0, "holds": True}
    assert report.report("x", [good], rounds=3) == 0
    assert json.loads((tmp_path / "bench/x.json").read_text()) == {"rounds": 3, "rows": [good]}
    assert report.report("x", [good, good | {"holds": False}]) == 1
    assert report.report("x", []) == 1, "nothing measured is no success"


def test_a_table_has_every_column_and_a_verdict_where_there_is_a_bar() -> None:
    text = io.StringIO()
    show(
        [
            {"metric": "link [plain]", "ours": 0.123456789, "bar": 2, "holds": False},
            {"metric": "only shown", "ours": 12, "peer_cpu_s": None, "holds": True},
            {"metric": "two bars", "ours": 12, "ms_bar": 17.0, "holds": True},
        ],
        text,
    )
    head, _, first, second, third = [
        line.split("  ") for line in text.getvalue().splitlines() if line.strip()
    ]
    assert [cell.strip() for cell in head if cell.strip()] == [
        "metric", "ours", "bar", "peer cpu s", "ms bar",
    ]  # fmt: skip
    assert [cell.strip() for cell in first if cell.strip()] == [
        "link [plain]",
        "0.123457",
        "2",
        "does not hold",
    ]
    assert [cell.strip() for cell in second if cell.strip()] == ["only shown", "12"]
    assert [cell.strip() for cell in third if cell.strip()] == ["two bars", "12", "17", "holds"]
