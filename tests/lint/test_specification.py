# SPDX-License-Identifier: Apache-2.0
"""docs/SPECIFICATION.md names what holds each promise; a name that leads nowhere is a broken promise."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SPECIFICATION = TOP / "docs/SPECIFICATION.md"
ROW = re.compile(r"^\| (?P<number>\d+\.\d+) \| (?P<promise>[^|]+) \| (?P<held>[^|]+) \|$", re.M)


def test_every_promise_names_what_holds_it() -> None:
    text = SPECIFICATION.read_text()
    rows = list(ROW.finditer(text))
    lines = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(lines), "a row is not `| N.N | promise | held by |`"
    numbers = [row["number"] for row in rows]
    assert len(set(numbers)) == len(numbers), "two promises have one number"
    makefiles = (TOP / "Makefile").read_text() + (TOP / "packer/images.mk").read_text()
    missing: list[str] = []
    for row in rows:
        names = re.findall(r"`([^`]+)`", row["held"])
        assert names, f"{row['number']} names no test"
        for name in names:
            if name.startswith("make "):
                found = re.search(rf"^{re.escape(name.split()[1])}:", makefiles, re.M) is not None
            else:
                path, _, test = name.partition("::")
                file = TOP / path
                found = file.is_file() and (
                    not test or re.search(rf"\b(def|class) {re.escape(test)}\b", file.read_text()) is not None
                )
            if not found:
                missing.append(f"{row['number']}: {name}")
    assert not missing, "\n".join(missing)
