# SPDX-License-Identifier: Apache-2.0
"""What a system VM's serial console says about a start that went wrong; reads text and asks nobody.

The kernel is told `quiet loglevel=3`, and systemd is silent as long as all is well: a good start writes
nothing but the sequences that make a terminal ready. What is there besides is a complaint.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from attrs import frozen

#: The driver writes this before each start: one file holds all starts of a machine.
START_MARKER = "--- the machine is started "
#: How much of a log's end is read.
TAIL_BYTES = 128 * 1024
_LONGEST = 300

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])|[\x00-\x08\x0e-\x1f\x7f]"
)
_STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s*(?:\[[^\]]{1,12}\]\s*)?")
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<why>.*)")
_NO_ROOT = re.compile(r"initrd: (?P<why>no root file system on .*)")
_VFS = re.compile(r"VFS: (?:Cannot open root device|Unable to mount root fs on) (?P<what>\S+)")
_PREINIT = re.compile(r"systemvm-preinit: (?P<why>.*)")
_HINT = re.compile(r"^\s+hint: (?P<hint>.*)")
_CANNOT_START = re.compile(r"Cannot start: (?P<why>.*)")
_OOM = re.compile(r"Out of memory: Killed process \d+ \((?P<program>[^)]*)\)")
_FAILED_UNIT = re.compile(r"\[FAILED\] (?:Failed to start|Failed to mount) (?P<unit>[^.\s]+\.\w+)")
_DISK = re.compile(r"I/O error, dev (?P<device>vd[a-z]\w*)|EXT4-fs error \(device (?P<fs>vd\w+)\)")
_EMERGENCY = "You are in emergency mode"
_WAITING = "no credential came; waiting up to"
_NOTHING_CAME = "no boot arguments"


@frozen
class SerialError:
    """A reason in words that follow "its agent …"; `final`: nothing will come of this start by itself."""

    reason: str
    hint: str
    final: bool = True


def start_marker(moment: str) -> bytes:
    """The line that begins a start's part of the log."""
    return f"\n{START_MARKER}{moment} ---\n".encode()


def read_tail(path: Path) -> str:
    """The end of a serial log; nothing when there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def since_last_start(text: str) -> str:
    """What was written since the newest mark; everything when there is none."""
    _, found, after = text.rpartition(START_MARKER)
    return after.partition("\n")[2] if found else text


def is_empty(text: str) -> bool:
    """Whether the machine wrote nothing at all in its newest start, not even a terminal's sequences."""
    return not since_last_start(text).strip()


def plain_lines(text: str) -> list[str]:
    """The newest start's lines without terminals' sequences, kernel's time stamps, and blanks."""
    plain = _ESCAPES.sub("", since_last_start(text)).replace("\r", "\n")
    return [_STAMP.sub("", line).rstrip() for line in plain.split("\n") if line.strip()]


def find_error(text: str, name: str) -> SerialError | None:
    """The gravest complaint in the newest start of the machine `name`; None: it complains of nothing."""
    found = plain_lines(text)
    again = f"systemvm serial {name} shows its console"
    checks = (_no_root, _panic, _preinit, _emergency, _agent, _memory, _disk, _waiting, _unit)
    for check in checks:
        answer = check(found, again)
        if answer is not None:
            return answer
    return None


def _first(pattern: re.Pattern[str], found: list[str]) -> re.Match[str] | None:
    return next((match for line in found if (match := pattern.search(line))), None)


def _last(pattern: re.Pattern[str], found: list[str]) -> re.Match[str] | None:
    return _first(pattern, found[::-1])


def _no_root(found: list[str], again: str) -> SerialError | None:
    match = _first(_NO_ROOT, found)
    if match is not None:
        return SerialError(
            f"did not boot: {match['why']}",
            "its disk is not the image's: destroy it, and another is made; if that fails too, make images",
        )
    match = _first(_VFS, found)
    if match is None:
        return None
    return SerialError(
        f"did not boot: the kernel found no root file system on {match['what'].strip(chr(34))}",
        "kernel, initial file system and disk must be of one image: import it again (make images)",
    )


def _panic(found: list[str], again: str) -> SerialError | None:
    match = _first(_PANIC, found)
    if match is None:
        return None
    why = match["why"].strip()
    memory = "memory" in why.lower()
    hint = "give it more memory (system_vms in its zone's file)" if memory else again
    return SerialError(f"did not boot: the kernel panicked: {_short(why)}", hint)


def _preinit(found: list[str], again: str) -> SerialError | None:
    at = next(
        (
            number
            for number in range(len(found) - 1, -1, -1)
            if _PREINIT.search(found[number]) and _WAITING not in found[number]
        ),
        None,
    )
    if at is None:
        return None
    words, hint = [found[at].partition("systemvm-preinit: ")[2].strip()], ""
    for line in found[at + 1 : at + 8]:
        if (told := _HINT.match(line)) is not None:
            hint = told["hint"].strip()
            break
        if line.startswith("["):  # somebody else's line
            break
        words.append(line.strip())
    why = _short(" ".join(words))
    if why.startswith(_NOTHING_CAME):
        return SerialError(f"has {why}", hint or again)
    return SerialError(f"could not be prepared: {why}", hint or again)


def _emergency(found: list[str], again: str) -> SerialError | None:
    if not any(_EMERGENCY in line for line in found):
        return None
    unit = _first(_FAILED_UNIT, found)
    why = f" because {unit['unit']} failed" if unit is not None else ""
    return SerialError(
        f"did not boot: systemd is in emergency mode{why}", f"{again}; destroy it for a new disk"
    )


def _agent(found: list[str], again: str) -> SerialError | None:
    match = _last(_CANNOT_START, found)
    return None if match is None else SerialError(f"cannot start: {_short(match['why'])}", again)


def _memory(found: list[str], again: str) -> SerialError | None:
    match = _last(_OOM, found)
    if match is None:
        return None
    return SerialError(
        f"has too little memory: the kernel killed {match['program']}",
        "give it more memory (system_vms in its zone's file)",
        final=False,
    )


def _disk(found: list[str], again: str) -> SerialError | None:
    match = _last(_DISK, found)
    if match is None:
        return None
    device = match["device"] or match["fs"]
    return SerialError(
        f"cannot use its disk: errors on {device}",
        "look at the host's disk (dmesg, df); destroy it for a new one",
        final=False,
    )


def _waiting(found: list[str], again: str) -> SerialError | None:
    if not any(_WAITING in line for line in found):
        return None
    return SerialError(
        "has no boot arguments: it waits for them by qemu-guest-agent",
        "no credential came with the machine: reboot it, and it is started with new ones",
        final=False,
    )


def _unit(found: list[str], again: str) -> SerialError | None:
    match = _last(_FAILED_UNIT, found)
    if match is None:
        return None
    return SerialError(f"did not boot well: {match['unit']} failed", again, final=False)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
