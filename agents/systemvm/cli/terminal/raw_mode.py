# SPDX-License-Identifier: Apache-2.0
"""The terminal's raw mode: keys are sent as they are; at the end, however it comes, all is as before."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import tty
from types import TracebackType

#: After a guest that used the whole screen: no mouse reports, no bracketed paste, main screen, soft reset.
RESET = b"\x1b[?1000;1002;1003;1006;2004l\x1b[?47l\x1b[!p\x1b[0m"


class RawMode:
    """A context in which the terminal of `descriptor` is raw; nothing happens when it is not a terminal."""

    def __init__(self, descriptor: int, screen: int) -> None:
        self.is_terminal = os.isatty(descriptor)
        self._descriptor = descriptor
        self._screen = screen  # where the terminal's output goes
        self._before = termios.tcgetattr(descriptor) if self.is_terminal else None

    def __enter__(self) -> RawMode:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def enter(self) -> None:
        if self.is_terminal and self._is_foreground():
            tty.setraw(self._descriptor, termios.TCSADRAIN)

    def leave(self) -> None:
        if self._before is None:
            return
        if os.isatty(self._screen):
            with contextlib.suppress(OSError):
                os.write(self._screen, RESET)
        with contextlib.suppress(termios.error, OSError):  # the terminal is gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Stop this program as SIGTSTP does, with the terminal as the shell expects it."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()  # here SIGCONT has come

    def _is_foreground(self) -> bool:
        """Return whether this program has the terminal: another one's mode is not ours to change."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False
