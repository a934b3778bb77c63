# SPDX-License-Identifier: Apache-2.0
"""A process that outlives this program: it is found by its pid file and its arguments."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from systemvm.service.slowness import scaled_s

_END_S = 5.0


@contextlib.contextmanager
def process_of(pid_file: Path, arguments: list[str]) -> Iterator[int | None]:
    """Yield a descriptor of the process that the file names; None when these are not among its arguments,
    one after another.
    """
    try:
        pid = int(pid_file.read_text())
        descriptor = os.pidfd_open(pid)
    except (ValueError, OSError):
        yield None
        return
    try:
        # the process id is not reused while the descriptor is open
        found = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        found = []
    try:
        yield descriptor if _contains(found, arguments) else None
    finally:
        os.close(descriptor)


def _contains(found: list[str], wanted: list[str]) -> bool:
    length = len(wanted)
    return any(found[start : start + length] == wanted for start in range(len(found) - length + 1))


def end(process: int) -> None:
    """End a process, and wait until it has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if poll.poll(scaled_s(_END_S) * 1000):
            return
