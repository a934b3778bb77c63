# SPDX-License-Identifier: Apache-2.0
"""Prints Packer's progress from its log; the build does not depend on it."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

#: The prefix of the line with which Packer (1.6 to 1.15) begins a step, and the text that is printed for it.
_STEPS = (
    ("Copying hard drive", "copying the base disk"),
    ("Starting VM", "starting the machine"),
    ("Waiting for SSH", "booting, until ssh answers"),
    ("Uploading", "sending agents and packages"),
    ("Provisioning with shell script", "running"),
    ("Gracefully halting", "shutting down"),
    ("Converting hard drive", "compressing the image"),
)
_STEP_LINE = re.compile(r"==> [\w.-]+: (.*)")
#: A longer step is printed again, so that a slow build does not look hung.
STILL_EVERY_S = 60.0


class Steps:
    """Converts lines of Packer's log to progress lines; `seconds` is a monotonic clock."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._began_s = seconds()
        self._step = ""
        self._shown_s = self._began_s

    def read(self, line: str) -> str | None:
        """Return the step that this line begins, with the time since the start; None if it begins none."""
        found = _STEP_LINE.search(line)
        if found is None:
            return None
        for prefix, step in _STEPS:
            if found[1].startswith(prefix):
                script = found[1].rpartition("/")[2] if prefix.startswith("Provisioning") else ""
                self._step = f"{step} {script}".rstrip()
                return self._show(self._step)
        return None

    def still(self) -> str | None:
        """Return the current step again when it was not printed for `STILL_EVERY_S`."""
        if not self._step or self._seconds() - self._shown_s < STILL_EVERY_S:
            return None
        return self._show(f"still {self._step}")

    def _show(self, text: str) -> str:
        self._shown_s = self._seconds()
        return f"{self._shown_s - self._began_s:4.0f} s  {text}"


def run_shown(
    command: Sequence[str], log: IO[bytes], environment: Mapping[str, str], show: Callable[[str], None]
) -> int:
    """Run a command with its output in `log`, print its steps, and return its exit code."""
    steps = Steps()
    unfinished = b""
    receiving, sending = os.pipe()
    with (
        os.fdopen(receiving, "rb", buffering=0) as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sending, stderr=sending, env=environment
        ) as process,
    ):
        os.close(sending)
        poll = select.poll()
        poll.register(output, select.POLLIN)
        while True:
            lines: list[bytes] = []
            if poll.poll(STILL_EVERY_S * 1000):
                data = output.read(65536)
                if not data:
                    break
                log.write(data)
                log.flush()
                *lines, unfinished = (unfinished + data).split(b"\n")
            shown = [steps.read(line.decode(errors="replace")) for line in lines]
            for text in (*shown, steps.still()):
                if text is not None:
                    show(text)
    return process.returncode


def tail(log: Path, lines: int = 25) -> str:
    """Return the end of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
