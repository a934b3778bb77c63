# SPDX-License-Identifier: Apache-2.0
"""What the kernel and systemd write on a serial console when a boot fails.

Their texts are all that there is, and they are not ours to change: this module matches them, and nothing else
in the daemon does. What our own programs report there is read by its tokens (wire/serial_report.py).
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])|[\x00-\x08\x0e-\x1f\x7f]"
)
_STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s*(?:\[[^\]]{1,12}\]\s*)?")
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<why>.*)")
_OUT_OF_MEMORY = re.compile(r"\bmemory\b", re.IGNORECASE)
_VFS = re.compile(r"VFS: (?:Cannot open root device|Unable to mount root fs on) (?P<what>\S+)")
_OOM = re.compile(r"Out of memory: Killed process \d+ \((?P<program>[^)]*)\)")
_FAILED_UNIT = re.compile(r"\[FAILED\] (?:Failed to start|Failed to mount) (?P<unit>[^.\s]+\.\w+)")
_DISK = re.compile(r"I/O error, dev (?P<device>vd[a-z]\w*)|EXT4-fs error \(device (?P<fs>vd\w+)\)")
_EMERGENCY = "You are in emergency mode"


def plain_lines(text: str) -> list[str]:
    """The lines of a console without terminals' sequences, the kernel's time stamps, and blank lines."""
    plain = _ESCAPES.sub("", text).replace("\r", "\n")
    return [_STAMP.sub("", line).rstrip() for line in plain.split("\n") if line.strip()]


def root_not_found(lines: list[str]) -> str | None:
    """The device on which the kernel itself found no root file system."""
    match = _first(_VFS, lines)
    return None if match is None else match["what"].strip('"')


def panic(lines: list[str]) -> str | None:
    """Why the kernel panicked."""
    match = _first(_PANIC, lines)
    return None if match is None else match["why"].strip()


def is_for_memory(panic_reason: str) -> bool:
    """Whether a panic comes from too little memory."""
    return _OUT_OF_MEMORY.search(panic_reason) is not None


def killed_for_memory(lines: list[str]) -> str | None:
    """The program that the kernel killed last because memory was used up."""
    match = _first(_OOM, lines[::-1])
    return None if match is None else match["program"]


def broken_disk(lines: list[str]) -> str | None:
    """The disk that had the last input or output error."""
    match = _first(_DISK, lines[::-1])
    return None if match is None else match["device"] or match["fs"]


def is_in_emergency_mode(lines: list[str]) -> bool:
    """Whether systemd gave up and started its emergency shell."""
    return any(_EMERGENCY in line for line in lines)


def first_failed_unit(lines: list[str]) -> str | None:
    """The unit that failed first, which is often why the others did."""
    match = _first(_FAILED_UNIT, lines)
    return None if match is None else match["unit"]


def last_failed_unit(lines: list[str]) -> str | None:
    """The unit that failed last."""
    match = _first(_FAILED_UNIT, lines[::-1])
    return None if match is None else match["unit"]


def _first(pattern: re.Pattern[str], lines: list[str]) -> re.Match[str] | None:
    return next((match for line in lines if (match := pattern.search(line))), None)
