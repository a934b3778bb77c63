# SPDX-License-Identifier: Apache-2.0
"""Runs a program of Twisted, and notes how late the calls of its reactor come.

usage: timed_program.py FILE MODULE [ARGUMENT]…

Once a second it appends to FILE a line for each call: the monotonic time at which it was due, and how late it
came, both in seconds.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any, TextIO

EVERY_S = 0.01
CALLS_PER_WRITE = 100


class ReactorTimer:
    """Calls itself again and again; `write` gets the times of the calls."""

    def __init__(self, reactor: Any, file: TextIO) -> None:
        self._reactor = reactor
        self._file = file
        self._lines: list[str] = []

    def start(self) -> None:
        self._later()

    def _later(self) -> None:
        due_s = self._reactor.seconds() + EVERY_S
        self._reactor.callLater(EVERY_S, self._called, due_s)

    def _called(self, due_s: float) -> None:
        self._lines.append(f"{due_s:.6f} {self._reactor.seconds() - due_s:.6f}\n")
        if len(self._lines) >= CALLS_PER_WRITE:
            self._file.writelines(self._lines)
            self._file.flush()
            self._lines.clear()
        self._later()


def lateness_s(file: Path, begin_s: float, end_s: float) -> list[float]:
    """Return how late the calls came that were due in an interval of monotonic time."""
    calls = [[float(word) for word in line.split()] for line in file.read_text().splitlines()]
    return [call[1] for call in calls if len(call) == 2 and begin_s <= call[0] < end_s]


def main() -> None:
    file, module = Path(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    del sys.path[0]  # the directory of this program
    from twisted.internet import epollreactor

    install = epollreactor.install

    def install_timed() -> None:
        install()
        from twisted.internet import reactor

        timer = ReactorTimer(reactor, file.open("a"))
        reactor.callWhenRunning(timer.start)

    epollreactor.install = install_timed
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
