# SPDX-License-Identifier: Apache-2.0
"""Texts as keys of a layout, by QEMU's own tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.management.screens import keysyms
from systemvm.management.screens.keymap import (
    ALT_GR,
    KEYMAP_FOLDER,
    LAYOUTS,
    SHIFT,
    SPACE,
    KeyboardError,
    Keymap,
    load,
)

GERMAN = """\
# name: "German (no dead keys)"
# evdev 16 (0x10), QKeyCode "q", number 0x10
q 0x10
Q 0x10 shift
at 0x10 altgr
Greek_OMEGA 0x10 shift altgr
z 0x15
y 0x2c
udiaeresis 0x1a
Udiaeresis 0x1a shift
ssharp 0x0c
EuroSign 0x12 altgr
e 0x12
E 0x12 shift
1 0x02
KP_1 0x4f numlock
dead_acute 0x0d
dead_circumflex 0x29
"""


@pytest.fixture
def german() -> Keymap:
    return Keymap.parse("de", GERMAN.splitlines())


def test_a_german_y_is_a_y(german: Keymap) -> None:
    """On its place is the z of other layouts (CloudStack issue 14012)."""
    assert german.type("yz") == [(0x2C,), (0x15,)]


def test_characters_have_their_modifiers(german: Keymap) -> None:
    assert german.type("qQ@üÜß€") == [
        (0x10,), (SHIFT, 0x10), (ALT_GR, 0x10), (0x1A,), (SHIFT, 0x1A), (0x0C,), (ALT_GR, 0x12),
    ]  # fmt: skip


def test_a_dead_key_makes_an_accented_letter_and_alone_itself(german: Keymap) -> None:
    assert german.type("é") == [(0x0D,), (0x12,)]
    assert german.type("Ê") == [(0x29,), (SHIFT, 0x12)]
    assert german.type("^") == [(0x29,), (SPACE,)]


def test_lines_tabs_and_blanks_are_keys(german: Keymap) -> None:
    assert german.type("1\n\t ") == [(0x02,), (0x1C,), (0x0F,), (SPACE,)]


def test_a_missing_character_is_named(german: Keymap) -> None:
    with pytest.raises(KeyboardError) as caught:
        german.type("q語€")
    assert "'語' (U+8A9E)" in caught.value.message
    assert "layout de" in caught.value.message


@pytest.mark.parametrize(
    ("name", "made"),
    [("a", "a"), ("exclam", "!"), ("Ccedilla", "Ç"), ("scaron", "š"), ("U1E9E", "ẞ"), ("lstroke", "ł")],
)
def test_names_of_keys(name: str, made: str) -> None:
    assert keysyms.character(name) == made


@pytest.mark.parametrize("name", ["Escape", "dead_acute", "UD800", "U110000", "qring", "", "Greek_OMEGA"])
def test_names_that_make_no_character(name: str) -> None:
    assert keysyms.character(name) is None


@pytest.mark.parametrize(
    "line", ["", "#", "q", "q x", "q 0x10 hyper", "map 0x407", "include common", "KP_7 0x47 numlock"]
)
def test_a_line_that_is_not_of_a_character_is_skipped(line: str) -> None:
    assert set(Keymap.parse("us", [line]).chords) == set(Keymap.parse("us", []).chords)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(KeyboardError) as caught:
        load("klingon")
    assert "de-ch" in caught.value.hint


def test_a_host_without_the_tables_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(KeyboardError) as caught:
        load("de", tmp_path)
    assert caught.value.hint == "install Debian's qemu-system-data"


@pytest.mark.skipif(not KEYMAP_FOLDER.exists(), reason="QEMU's tables are not installed")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_types_all_of_ascii(layout: str) -> None:
    text = "".join(map(chr, range(0x20, 0x7F))) + "\n\t"
    assert len(load(layout).type(text)) >= len(text)
