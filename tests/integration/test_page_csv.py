# SPDX-License-Identifier: Apache-2.0
"""Files that the page makes of tables."""

from __future__ import annotations

import csv
import io

import pytest
from playwright.sync_api import Page

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import chromium, open_modules

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

WRITE = """async (rows) => (await import("./csv.js")).csv(rows)"""


def test_a_table_is_read_back_and_no_name_becomes_a_formula(chromium: Chromium) -> None:
    rows = [["account", "bytes"], ['a,b "c"\nd', 5], ["=1+1", -3], ["@x", 0], ["", 1.5]]

    def steps(page: Page) -> str:
        open_modules(page)
        text: str = page.evaluate(WRITE, rows)
        return text

    text = chromium.run(steps)
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["account", "bytes"], ['a,b "c"\nd', "5"], ["'=1+1", "-3"], ["'@x", "0"], ["", "1.5"],
    ]  # fmt: skip
    assert text.count("\r\n") == len(rows)
