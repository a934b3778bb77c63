# SPDX-License-Identifier: Apache-2.0
"""Signs that a program is at work, seen from outside: what it has written, and its CPU time."""

from __future__ import annotations

from pathlib import Path


def written_bytes(log: Path) -> int:
    """The size of a log; 0 while there is none."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def cpu_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """User and system time of all threads of a process (proc(5)); 0 when there is no such process."""
    try:
        # the name in parentheses may hold blanks
        words = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(words[11]) + int(words[12])


def cpu_ticks_by_file(pid_file: Path) -> int:
    """The same, of the process whose number a file holds."""
    try:
        return cpu_ticks(int(pid_file.read_text()))
    except (OSError, ValueError):
        return 0
