# SPDX-License-Identifier: Apache-2.0
"""What a system VM's serial console says about a start that went wrong; reads text and asks nobody.

The kernel is told `quiet loglevel=3`, and systemd is silent as long as all is well: a good start writes
nothing but the sequences that make a terminal ready. What is there besides is a complaint.
"""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from systemvm.management.boot_failure_messages import BOOT_FAILURE_REASONS, describe
from systemvm.management.hypervisors import linux_console
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.serial_report import last_report

#: The driver writes this before each start: one file holds all starts of a machine.
START_MARKER = "--- the machine is started "
#: How much of a log's end is read.
TAIL_BYTES = 128 * 1024
_LONGEST = 300


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
    return linux_console.plain_lines(since_last_start(text))


def find_error(text: str, name: str) -> SerialError | None:
    """The gravest error in the newest start of the machine `name`; None when there is none."""
    lines = plain_lines(text)
    report = last_report(lines)
    failure = None if report is None else BootFailure.of(report.reason)
    again = f"systemvm serial {name} shows its console"
    if report is not None and failure is BootFailure.NO_ROOT_FILE_SYSTEM:
        return SerialError(
            describe(report.reason, _short(report.message)),
            "its disk is not the image's: destroy it, and another is made; if that fails too, make images",
        )
    if (device := linux_console.root_not_found(lines)) is not None:
        return SerialError(
            f"did not boot: the kernel found no root file system on {device}",
            "kernel, initial file system and disk must be of one image: import it again (make images)",
        )
    if (why := linux_console.panic(lines)) is not None:
        hint = _MORE_MEMORY if linux_console.is_for_memory(why) else again
        return SerialError(f"did not boot: the kernel panicked: {_short(why)}", hint)
    if report is not None and failure is not BootFailure.AWAITING_BOOT_ARGUMENTS:
        # a reason that this release does not know can be one that passes by itself
        is_final = failure is not None
        return SerialError(describe(report.reason, _short(report.message)), report.hint or again, is_final)
    return _of_systemd(lines, again) or (None if report is None else _WAITING) or _of_unit(lines, again)


_MORE_MEMORY = "give it more memory (system_vms in its zone's file)"
_WAITING = SerialError(
    BOOT_FAILURE_REASONS[BootFailure.AWAITING_BOOT_ARGUMENTS],
    "no credential came with the machine: reboot it, and it is started with new ones",
    final=False,
)


def _of_systemd(lines: list[str], again: str) -> SerialError | None:
    if linux_console.is_in_emergency_mode(lines):
        unit = linux_console.first_failed_unit(lines)
        why = f" because {unit} failed" if unit is not None else ""
        return SerialError(
            f"did not boot: systemd is in emergency mode{why}", f"{again}; destroy it for a new disk"
        )
    if (program := linux_console.killed_for_memory(lines)) is not None:
        reason = f"has too little memory: the kernel killed {program}"
        return SerialError(reason, _MORE_MEMORY, final=False)
    if (device := linux_console.broken_disk(lines)) is not None:
        return SerialError(
            f"cannot use its disk: errors on {device}",
            "look at the host's disk (dmesg, df); destroy it for a new one",
            final=False,
        )
    return None


def _of_unit(lines: list[str], again: str) -> SerialError | None:
    unit = linux_console.last_failed_unit(lines)
    return None if unit is None else SerialError(f"did not boot well: {unit} failed", again, final=False)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
