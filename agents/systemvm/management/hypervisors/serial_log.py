# SPDX-License-Identifier: Apache-2.0
"""Finds errors of a system VM's start in the log of its serial console.

The kernel boots with `quiet loglevel=3`, and systemd writes nothing unless a unit fails: a good start writes
only the control sequences that reset a terminal.
"""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from systemvm.management.boot_failure_messages import BOOT_FAILURE_REASONS, describe
from systemvm.management.hypervisors import linux_console
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.serial_report import last_report

#: The driver writes this before each start, because one file contains all starts of a machine.
START_MARKER = "--- the machine is started "
#: The length of the end of a log that is read.
TAIL_BYTES = 128 * 1024
_LONGEST = 300


@frozen
class SerialError:
    """An error whose reason follows "its agent …"; `final`: this start cannot succeed any more."""

    reason: str
    hint: str
    final: bool = True


def start_marker(moment: str) -> bytes:
    """Return the line that begins a start in the log."""
    return f"\n{START_MARKER}{moment} ---\n".encode()


def read_tail(path: Path) -> str:
    """Return the end of a serial log; an empty text when there is no file."""
    return read_end(path, TAIL_BYTES).decode("utf-8", "replace")


def read_end(path: Path, count: int) -> bytes:
    """Return at most the last `count` bytes of a file; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count))
            return file.read(count)
    except FileNotFoundError:
        return b""


def since_last_start(text: str) -> str:
    """Return the text since the newest marker, or all of it without a marker."""
    _, found, after = text.rpartition(START_MARKER)
    return after.partition("\n")[2] if found else text


def is_empty(text: str) -> bool:
    """Return whether the newest start wrote nothing at all, not even control sequences."""
    return not since_last_start(text).strip()


def plain_lines(text: str) -> list[str]:
    """Return the lines of the newest start without control sequences, time stamps and empty lines."""
    return linux_console.plain_lines(since_last_start(text))


def find_error(text: str, name: str) -> SerialError | None:
    """Return the most severe error of the newest start of the machine `name`, or None."""
    lines = plain_lines(text)
    report = last_report(lines)
    failure = None if report is None else BootFailure.of(report.reason)
    again = f"see systemvm serial {name} for its console"
    if report is not None and failure is BootFailure.NO_ROOT_FILE_SYSTEM:
        return SerialError(
            describe(report.reason, _short(report.message)),
            "destroy it, so that it gets a new disk; if that fails, too, run make images",
        )
    if (device := linux_console.root_not_found(lines)) is not None:
        return SerialError(
            f"did not boot: the kernel found no root file system on {device}",
            "run make images: kernel, initial file system and disk must be of one image",
        )
    if (why := linux_console.panic(lines)) is not None:
        hint = _MORE_MEMORY if linux_console.is_for_memory(why) else again
        return SerialError(f"did not boot: the kernel panicked: {_short(why)}", hint)
    if report is not None and failure is not BootFailure.AWAITING_BOOT_ARGUMENTS:
        # an unknown reason of a later release can be a temporary one
        is_final = failure is not None
        return SerialError(describe(report.reason, _short(report.message)), report.hint or again, is_final)
    return _of_systemd(lines, again) or (None if report is None else _WAITING) or _of_unit(lines, again)


_MORE_MEMORY = "give it more memory (system_vms in its zone's file)"
_WAITING = SerialError(
    BOOT_FAILURE_REASONS[BootFailure.AWAITING_BOOT_ARGUMENTS],
    "reboot it: the machine got no credential at its start",
    final=False,
)


def _of_systemd(lines: list[str], again: str) -> SerialError | None:
    if linux_console.is_in_emergency_mode(lines):
        unit = linux_console.first_failed_unit(lines)
        why = f" because {unit} failed" if unit is not None else ""
        return SerialError(
            f"did not boot: systemd is in emergency mode{why}", f"{again}; destroy the VM for a new disk"
        )
    if (program := linux_console.killed_for_memory(lines)) is not None:
        reason = f"has too little memory: the kernel killed {program}"
        return SerialError(reason, _MORE_MEMORY, final=False)
    if (device := linux_console.broken_disk(lines)) is not None:
        return SerialError(
            f"cannot use its disk: errors on {device}",
            "check the host's disk with dmesg and df; destroy the VM for a new disk",
            final=False,
        )
    return None


def _of_unit(lines: list[str], again: str) -> SerialError | None:
    unit = linux_console.last_failed_unit(lines)
    return (
        None if unit is None else SerialError(f"did not boot completely: {unit} failed", again, final=False)
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
