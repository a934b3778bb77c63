# SPDX-License-Identifier: Apache-2.0
"""What each benchmark ends with: a table of its figures and bars, the same rows as JSON, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parents[2] / "build/bench"
#: Columns of a file or a pipe, which has no width of its own.
_WIDTH = 160


def result_file(name: str) -> Path:
    """Return where the figures of `make bench-NAME` go; its directory exists then."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    return RESULTS / f"{name}.json"


def report(name: str, rows: Sequence[Mapping[str, Any]], **facts: Any) -> int:
    """Print the rows, write them with what else was measured, and return the exit code.

    A row has a metric, figures, and `holds`: whether it is within its bar. Its other keys are the columns, in
    their order. The code is 1 when a bar does not hold, or nothing was measured.
    """
    result_file(name).write_text(json.dumps({**facts, "rows": list(rows)}, indent=1) + "\n")
    show(rows)
    return 0 if rows and all(row["holds"] for row in rows) else 1


def show(rows: Sequence[Mapping[str, Any]], to: TextIO | None = None) -> None:
    """Print a table of the rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "holds"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_text = all(isinstance(row.get(column, ""), str) for row in rows)
        table.add_column(column.replace("_", " "), justify="left" if is_text else "right", overflow="fold")
    table.add_column("")
    for row in rows:
        has_bar = any(key.endswith("bar") and value not in ("", None) for key, value in row.items())
        verdict = "does not hold" if not row["holds"] else "holds" if has_bar else ""
        table.add_row(*(_text(row.get(column)) for column in columns), verdict)
    file = sys.stdout if to is None else to
    Console(file=file, width=None if file.isatty() else _WIDTH, highlight=False, markup=False).print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
