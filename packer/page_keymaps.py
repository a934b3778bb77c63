# SPDX-License-Identifier: Apache-2.0
"""Writes the key tables of the console's page, from the tables that typeConsoleText reads: `make keymaps`.

Browsers cannot read QEMU's tables, and a CPVM has no QEMU. tests/unit/management/screens/test_page_keymaps.py
compares the files with what Debian's qemu-system-data says.
"""

from __future__ import annotations

import json
from pathlib import Path

from systemvm.management.screens.keymap import LAYOUTS, Keymap, load

FOLDER = Path(__file__).resolve().parents[1] / "agents/systemvm/cpvm/page/keymaps"


def page_text(keymap: Keymap) -> str:
    """Return a table as the page reads it: the chords of each character, in QEMU's numbers."""
    lines = (
        f"{json.dumps(character, ensure_ascii=False)}: {json.dumps(chords)}"
        for character, chords in sorted(keymap.chords.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for layout in LAYOUTS:
        (FOLDER / f"{layout}.json").write_text(page_text(load(layout)), encoding="utf-8")


if __name__ == "__main__":
    main()
