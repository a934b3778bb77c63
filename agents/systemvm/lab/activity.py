# SPDX-License-Identifier: Apache-2.0
"""Signs that a program is working: the size of its log and its CPU time."""

from __future__ import annotations

from pathlib import Path


def written_bytes(log: Path) -> int:
    """Return the size of a log, 0 if it does not exist."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def cpu_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """Return user and system time of a process in clock ticks (proc(5)), 0 if it does not exist."""
    try:
        # the name in parentheses can contain blanks
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def cpu_ticks_by_file(pid_file: Path) -> int:
    """Return `cpu_ticks` of the process whose id is in a file."""
    try:
        return cpu_ticks(int(pid_file.read_text()))
    except (OSError, ValueError):
        return 0
