# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-boot`: medians, ratios and limits."""

from __future__ import annotations

from benchmark.boot import bar, rows


def test_medians_are_compared() -> None:
    table = rows({"stock": [30.0, 10.0, 20.0], "ssvm": [10.0, 90.0, 12.0], "cpvm": [8.0, 8.0, 8.0]})
    assert [(row["ours"], row["stock Debian 13 to sshd"], row["ratio"]) for row in table] == [
        (12.0, 20.0, 0.6),
        (8.0, 20.0, 0.4),
    ]
    assert all(row["holds"] for row in table)


def test_a_limit_holds_at_its_exact_value_but_not_above() -> None:
    table = rows({"stock": [100.0], "ssvm": [100.0 * bar("ssvm")], "cpvm": [100.0 * bar("cpvm") + 0.1]})
    assert [row["holds"] for row in table] == [True, False]
