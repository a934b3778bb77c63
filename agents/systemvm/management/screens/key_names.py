# SPDX-License-Identifier: Apache-2.0
"""Keys by their names, as in `ctrl+alt+delete`: those of QEMU's QKeyCode, and the common other names."""

from __future__ import annotations

from difflib import get_close_matches

from systemvm.management.screens.keymap import Chord, KeyboardError

#: QEMU's numbers (scan code set 1; 0x80 is added to those behind 0xe0).
_NUMBERS = {
    "esc": 0x01, "backspace": 0x0E, "tab": 0x0F, "ret": 0x1C, "ctrl": 0x1D, "shift": 0x2A, "shift_r": 0x36,
    "alt": 0x38, "spc": 0x39, "caps_lock": 0x3A, "num_lock": 0x45, "scroll_lock": 0x46, "sysrq": 0x54,
    "f11": 0x57, "f12": 0x58, "ctrl_r": 0x9D, "print": 0xB7, "alt_r": 0xB8, "pause": 0xC6, "home": 0xC7,
    "up": 0xC8, "pgup": 0xC9, "left": 0xCB, "right": 0xCD, "end": 0xCF, "down": 0xD0, "pgdn": 0xD1,
    "insert": 0xD2, "delete": 0xD3, "meta_l": 0xDB, "meta_r": 0xDC, "menu": 0xDD,
    "minus": 0x0C, "equal": 0x0D, "bracket_left": 0x1A, "bracket_right": 0x1B, "semicolon": 0x27,
    "apostrophe": 0x28, "grave_accent": 0x29, "backslash": 0x2B, "comma": 0x33, "dot": 0x34, "slash": 0x35,
    "less": 0x56,
    **{f"f{number}": 0x3A + number for number in range(1, 11)},
    **{digit: 0x02 + place for place, digit in enumerate("1234567890")},
    **{letter: 0x10 + place for place, letter in enumerate("qwertyuiop")},
    **{letter: 0x1E + place for place, letter in enumerate("asdfghjkl")},
    **{letter: 0x2C + place for place, letter in enumerate("zxcvbnm")},
}  # fmt: skip
_OTHER_NAMES = {
    "enter": "ret", "return": "ret", "escape": "esc", "space": "spc", "del": "delete", "ins": "insert",
    "control": "ctrl", "altgr": "alt_r", "win": "meta_l", "super": "meta_l", "meta": "meta_l",
    "pageup": "pgup", "pagedown": "pgdn", "printscreen": "print", "capslock": "caps_lock",
}  # fmt: skip
MAX_KEYS_OF_CHORD = 8


def parse_chords(text: str) -> list[Chord]:
    """Return the chords of `ctrl+alt+f2 enter`: chords by spaces, keys of one by plus signs, in any case.

    Letters and digits are the keys in their places on a US keyboard.

    Raises: KeyboardError that names the key which is not one.
    """
    chords = [tuple(_number(name) for name in chord.split("+")) for chord in text.lower().split()]
    if not chords:
        raise KeyboardError(
            "no key is named", "name keys as in: ctrl+alt+delete, or: down down enter", parameter="keys"
        )
    if any(len(chord) > MAX_KEYS_OF_CHORD for chord in chords):
        raise KeyboardError(
            f"more than {MAX_KEYS_OF_CHORD} keys cannot be pressed together",
            "separate keys that follow one another by spaces",
            parameter="keys",
        )
    return chords


def _number(name: str) -> int:
    known = _NUMBERS.get(_OTHER_NAMES.get(name, name))
    if known is not None:
        return known
    near = get_close_matches(name, [*_NUMBERS, *_OTHER_NAMES], 1)
    hint = f"did you mean {near[0]}?" if near else "name keys as in: ctrl+alt+delete, f2, enter, pgup"
    raise KeyboardError(f"key {name!r} is not known", hint, parameter="keys")
