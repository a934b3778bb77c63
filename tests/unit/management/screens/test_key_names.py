# SPDX-License-Identifier: Apache-2.0
"""Keys by their names."""

from __future__ import annotations

import pytest

from systemvm.management.screens.key_names import parse_chords
from systemvm.management.screens.keymap import KeyboardError


@pytest.mark.parametrize(
    ("text", "chords"),
    [
        ("ctrl+alt+delete", [(0x1D, 0x38, 0xD3)]),
        ("Ctrl+Alt+Del", [(0x1D, 0x38, 0xD3)]),
        ("down  down enter", [(0xD0,), (0xD0,), (0x1C,)]),
        ("f1 f10 f11 f12", [(0x3B,), (0x44,), (0x57,), (0x58,)]),
        ("alt+sysrq+b", [(0x38, 0x54, 0x30)]),
        ("1 0 a m", [(0x02,), (0x0B,), (0x1E,), (0x32,)]),
    ],
)
def test_chords(text: str, chords: list[tuple[int, ...]]) -> None:
    assert parse_chords(text) == chords


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "no key is named", "ctrl+alt+delete"),
        ("ctrl+alt+delte", "key 'delte' is not known", "did you mean delete?"),
        ("ctrl++c", "key '' is not known", ""),
        ("a+b+c+d+e+f+g+h+i", "more than 8 keys", "spaces"),
    ],
)
def test_what_is_not_a_key_is_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(KeyboardError) as caught:
        parse_chords(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
