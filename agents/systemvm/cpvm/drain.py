# SPDX-License-Identifier: Apache-2.0
"""The drain of a console server: it takes no new session, and ends those that are left at a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall


class Drain:
    """Calls `end_all` at the deadline."""

    def __init__(self, reactor: Any, end_all: Callable[[], None]) -> None:
        self._reactor = reactor
        self._end_all = end_all
        self._call: IDelayedCall | None = None
        self.ends_at_s: float | None = None

    @property
    def is_on(self) -> bool:
        return self.ends_at_s is not None

    def begin(self, ends_at_s: float) -> None:
        """Drain until this time of the reactor; another time replaces it."""
        self.stop()
        self.ends_at_s = ends_at_s
        self._call = self._reactor.callLater(max(0.0, ends_at_s - self._reactor.seconds()), self._end_all)

    def undo(self) -> None:
        self.stop()
        self.ends_at_s = None

    def stop(self) -> None:
        """Forget the deadline, at the end of the process."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
