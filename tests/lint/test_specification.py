# SPDX-License-Identifier: Apache-2.0
"""Each row of docs/SPECIFICATION.md is well formed and names tests and targets that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SPECIFICATION = TOP / "docs/SPECIFICATION.md"
ROW = re.compile(r"^\| (?P<number>\d+\.\d+) \| (?P<promise>[^|]+) \| (?P<proofs>[^|]+) \|$", re.M)


def faults(text: str) -> list[str]:
    """Return what is wrong with the rows in `text`."""
    rows = list(ROW.finditer(text))
    lines = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    found = ["a row is not `| N.N | promise | proved by |`"] if len(rows) != len(lines) else []
    numbers = [row["number"] for row in rows]
    found += [f"{number}: used twice" for number in sorted(set(numbers)) if numbers.count(number) > 1]
    makefiles = (TOP / "Makefile").read_text() + (TOP / "packer/images.mk").read_text()
    for row in rows:
        names = re.findall(r"`([^`]+)`", row["proofs"])
        if not names:
            found.append(f"{row['number']}: names no test")
        found += [f"{row['number']}: {name}" for name in names if not _exists(name, makefiles)]
    return found


def _exists(name: str, makefiles: str) -> bool:
    if name.startswith("make "):
        return re.search(rf"^{re.escape(name.split()[1])}:", makefiles, re.M) is not None
    path, _, test = name.partition("::")
    file = TOP / path
    if not file.is_file():
        return False
    return not test or re.search(rf"\b(def|class) {re.escape(test)}\b", file.read_text()) is not None


def test_every_promise_names_tests_that_exist() -> None:
    found = faults(SPECIFICATION.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| 1.1 | It works | `tests/lint/test_gone.py` |", "1.1: tests/lint/test_gone.py"),
        (
            "| 1.1 | It works | `tests/lint/test_specification.py::test_gone` |",
            "1.1: tests/lint/test_specification.py::test_gone",
        ),
        ("| 1.1 | It works | `make gone` |", "1.1: make gone"),
        ("| 1.1 | It works | by hand |", "1.1: names no test"),
        ("| 1.1 | It works |", "a row is not `| N.N | promise | proved by |`"),
        ("| 1.1 | It works | `make test` |\n| 1.1 | It works | `make test` |", "1.1: used twice"),
    ],
)
def test_a_broken_row_is_found(row: str, fault: str) -> None:
    assert faults(row) == [fault]
