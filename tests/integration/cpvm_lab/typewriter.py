# SPDX-License-Identifier: Apache-2.0
"""A guest that sends each key to its serial port: the BIOS's (US) character, and the scan code."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from integration.cpvm_lab.vnc_server import QemuVncServer
from systemvm.management.screens.keymap import ALT_GR
from systemvm.service.slowness import scaled_s

#: Sends ">", then for each key of int 16h its AL and AH by int 14h.
_PROGRAM = bytes.fromhex(
    "b83e01 31d2 cd14"  # ">"
    "31c0 cd16 50 b401 31d2 cd14 58 88e0 b401 31d2 cd14 ebea"
)


def disk(folder: Path) -> Path:
    """Return a boot disk of the program."""
    path = folder / "typewriter.raw"
    path.write_bytes(_PROGRAM.ljust(510, b"\0") + b"\x55\xaa" + bytes(512 * 2047))
    return path


class Typewriter:
    """A machine of a module's tests; `take` returns the keys since the last call."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self._serial = folder / "serial"
        self.screen = QemuVncServer(password, port, disk=disk(folder), serial=self._serial)
        self._read = 1
        self._wait(1)

    def _wait(self, size: int) -> bytes:
        deadline = time.monotonic() + scaled_s(60.0)
        while True:
            sent = self._serial.read_bytes() if self._serial.exists() else b""
            if len(sent) >= size:
                return sent
            if time.monotonic() > deadline:
                raise AssertionError(f"the guest sent {sent!r}, {size} bytes were expected")
            time.sleep(0.05)

    def take(self, count: int) -> list[tuple[str, int]]:
        """Wait for so many keys; return each one's character and scan code."""
        end = self._read + 2 * count
        sent = self._wait(end)[self._read : end]
        self._read = end
        return [(chr(sent[at]), sent[at + 1]) for at in range(0, len(sent), 2)]

    def scan_codes(self, count: int) -> list[int]:
        return [scan for _, scan in self.take(count)]

    def text(self, count: int) -> str:
        return "".join(character for character, _ in self.take(count))

    def close(self) -> None:
        self.screen.close()


def keys_of(chords: Iterable[tuple[int, ...]]) -> list[int]:
    """Return the scan codes that the BIOS reports of chords: of their last keys, and Alt-1 is 0x78."""
    return [
        chord[-1] + 0x76 if ALT_GR in chord and chord[-1] <= 0x0D else chord[-1] & 0x7F for chord in chords
    ]
