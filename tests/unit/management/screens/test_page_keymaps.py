# SPDX-License-Identifier: Apache-2.0
"""The console's page types by the same tables as typeConsoleText."""

from __future__ import annotations

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from systemvm.management.screens.keymap import KEYMAP_FOLDER, LAYOUTS, load

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "packer"))

from page_keymaps import FOLDER, page_text

SCRIPT = (files("systemvm.cpvm") / "page/layouts.js").read_text()


def test_the_page_offers_the_layouts_of_the_api() -> None:
    [table] = re.findall(r"LAYOUTS = \{(.*?)\};", SCRIPT, re.DOTALL)
    assert set(re.findall(r"([\w-]+)\"?: \"", table)) == set(LAYOUTS)
    assert {path.stem for path in FOLDER.iterdir()} == set(LAYOUTS)


def test_the_clouds_page_offers_the_same_layouts() -> None:
    script = (files("systemvm.management.page") / "static/keyboards.js").read_text()
    [own] = re.findall(r"KEYBOARDS = (\{.*?\});", script, re.DOTALL)
    [of_console] = re.findall(r"LAYOUTS = (\{.*?\});", SCRIPT, re.DOTALL)
    assert own == of_console


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_table_is_that_of_the_hypervisor(layout: str) -> None:
    text = (FOLDER / f"{layout}.json").read_text(encoding="utf-8")
    if (KEYMAP_FOLDER / LAYOUTS[layout]).exists():
        assert text == page_text(load(layout)), "run make keymaps"
    chords = json.loads(text)
    assert chords[" "] == [[0x39]]
    assert set("abcxyz0123ABC.-/\n\t") <= set(chords)


def test_a_german_y_is_a_y() -> None:
    chords = json.loads((FOLDER / "de.json").read_text(encoding="utf-8"))
    assert (chords["y"], chords["z"], chords["@"]) == ([[0x2C]], [[0x15]], [[0xB8, 0x10]])
