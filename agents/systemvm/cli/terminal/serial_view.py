# SPDX-License-Identifier: Apache-2.0
"""What a serial console shows of what arrives, without I/O: scroll-back once, and no stale query."""

from __future__ import annotations

from systemvm.cli.console_client import notices
from systemvm.cli.terminal.queries import QueryFilter
from systemvm.cli.terminal.seen_output import SeenOutput


class SerialView:
    """The output for a terminal, or for a program that reads it as it is."""

    def __init__(self, *, is_terminal: bool, shows_history: bool) -> None:
        self._is_terminal = is_terminal
        self._shows_history = shows_history
        self._seen = SeenOutput()
        self._live = QueryFilter()
        self._history_left = 0  # bytes of scroll-back that are to come
        self._history = b""
        self.is_open = False  # the port: input before that is an error

    def connecting(self) -> None:
        self.is_open = False

    def notice(self, text: str) -> str | None:
        """Take a message of the console proxy; return what its user must know."""
        notice = notices.parse(text)
        match notice.get("notice"):
            case "serial":
                self.is_open = True
                self._history, self._history_left = b"", int(notice.get("scrollback", 0))
                self._live.is_on = self._is_terminal and not notice.get("answers", True)
            case "answers":
                self._live.is_on = False
        return notices.sentence(notice)

    def received(self, data: bytes) -> bytes:
        """Return what is to be written."""
        shown = b""
        if self._history_left:
            old, data = data[: self._history_left], data[self._history_left :]
            self._history += old
            self._history_left -= len(old)
            if self._history_left:
                return b""
            shown = self._unseen_history()
        self._seen.append(data)
        return shown + self._live.feed(data)

    def _unseen_history(self) -> bytes:
        """Return what the machine has written since this console was connected last."""
        unseen, self._history = self._seen.unseen(self._history), b""
        self._seen.append(unseen)
        if not self._shows_history:
            unseen, self._shows_history = b"", True  # what comes after a reconnection is new
        if not self._is_terminal:
            return unseen
        old = QueryFilter()
        old.is_on = True
        return old.feed(unseen)
