# SPDX-License-Identifier: Apache-2.0
"""Which keys type a text on a keyboard layout, by the tables that QEMU installs for its VNC server.

A table has a line for each character: `udiaeresis 0x1a`, `at 0x10 altgr`. The number is QEMU's of a key: a
scan code of set 1, with 0x80 for those behind 0xe0.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from attrs import frozen

from systemvm.management.screens import keysyms
from systemvm.service.errors import FailureCode, SystemVmError

#: The layouts that CloudStack's deployVirtualMachine and its page name, and QEMU's tables for them. `sc` is
#: simplified Chinese: its keyboards have a US keyboard's keys, and the guest makes characters of them.
LAYOUTS = {
    "us": "en-us", "uk": "en-gb", "de": "de", "de-ch": "de-ch", "es": "es", "fi": "fi", "fr": "fr",
    "fr-be": "fr-be", "fr-ch": "fr-ch", "is": "is", "it": "it", "jp": "ja", "nl-be": "fr-be", "no": "no",
    "pt": "pt", "sc": "en-us",
}  # fmt: skip
DEFAULT_LAYOUT = "us"
#: Debian's qemu-system-data.
KEYMAP_FOLDER = Path("/usr/share/qemu/keymaps")

SHIFT, ALT_GR, SPACE = 0x2A, 0xB8, 0x39
_CONTROL_KEYS = {"\n": 0x1C, "\r": 0x1C, "\t": 0x0F, "\b": 0x0E, "\x1b": 0x01}
_MODIFIERS = {"shift": SHIFT, "altgr": ALT_GR}

#: Keys that are pressed together, by QEMU's numbers; the last one is pressed last.
Chord = tuple[int, ...]


class KeyboardError(SystemVmError):
    """A layout, text or key that cannot be typed."""

    code = FailureCode.INVALID


@frozen
class Keymap:
    """The chords of each character of a layout."""

    layout: str
    chords: dict[str, tuple[Chord, ...]]

    @classmethod
    def parse(cls, layout: str, lines: Iterable[str]) -> Keymap:
        """Read a table of QEMU's; lines that are not of a character are skipped."""
        plain: dict[str, Chord] = {" ": (SPACE,), **{key: (code,) for key, code in _CONTROL_KEYS.items()}}
        dead: dict[str, Chord] = {}
        for line in lines:
            name, _, rest = line.partition(" ")
            words = rest.split()
            if not words or name.startswith(("#", "KP_")) or not set(words[1:]) <= set(_MODIFIERS):
                continue
            try:
                chord = (*(_MODIFIERS[word] for word in words[1:]), int(words[0], 0))
            except ValueError:
                continue
            made = keysyms.character(name)
            keys, entry = (dead, name) if name in keysyms.DEAD_KEYS else (plain, made)
            if entry is not None and len(chord) < len(keys.get(entry, (0,) * 9)):
                keys[entry] = chord
        return cls(layout, _with_dead_keys(plain, dead))

    def type(self, text: str) -> list[Chord]:
        """Return the chords of a text, one after another.

        Raises: KeyboardError that names the characters which the layout does not have.
        """
        missing = sorted({each for each in text if each not in self.chords})
        if missing:
            named = ", ".join(f"{each!r} (U+{ord(each):04X})" for each in missing[:8])
            raise KeyboardError(
                f"text cannot be typed with keyboard layout {self.layout}: it has no {named}",
                "choose the layout that the guest has, or replace these characters",
                parameter="text",
            )
        return [chord for each in text for chord in self.chords[each]]


def _with_dead_keys(plain: dict[str, Chord], dead: dict[str, Chord]) -> dict[str, tuple[Chord, ...]]:
    """Add what a dead key and a letter make together, where no single key does."""
    chords: dict[str, tuple[Chord, ...]] = {made: (chord,) for made, chord in plain.items()}
    for name, chord in dead.items():
        combining, alone = keysyms.DEAD_KEYS[name]
        chords.setdefault(alone, (chord, (SPACE,)))
        for letter, key in plain.items():
            made = unicodedata.normalize("NFC", letter + combining)
            if letter.isalpha() and len(made) == 1:
                chords.setdefault(made, (chord, key))
    return chords


@lru_cache(maxsize=len(LAYOUTS))
def load(layout: str, folder: Path = KEYMAP_FOLDER) -> Keymap:
    """Return the table of a layout.

    Raises: KeyboardError when there is none.
    """
    if layout not in LAYOUTS:
        raise KeyboardError(
            f"keyboard layout {layout!r} is not known",
            f"choose one of {', '.join(sorted(LAYOUTS))}",
            parameter="keyboard",
        )
    try:
        text = (folder / LAYOUTS[layout]).read_text("utf-8")
    except OSError as error:
        raise KeyboardError(
            f"keyboard layout {layout} cannot be read: {error.strerror}", "install Debian's qemu-system-data"
        ) from None
    return Keymap.parse(layout, text.splitlines())
