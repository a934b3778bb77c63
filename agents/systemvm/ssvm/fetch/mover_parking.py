# SPDX-License-Identifier: Apache-2.0
"""Movers that wait for the next body of their upload: a few are kept, as compressed files cannot pause else.

A mover that is ended continues from its journal; one of a compressed file from its first byte at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall

#: Each has up to 40 MiB.
MAX_PARKED = 4


@define(eq=False)
class _Parked:
    end: Callable[[], None]
    timer: IDelayedCall


class MoverParking:
    """The movers of this fetch that wait, the one that waits longest first."""

    def __init__(self, reactor: Any, max_parked: int = MAX_PARKED) -> None:
        self._reactor = reactor
        self._max_parked = max_parked
        self._parked: dict[str, _Parked] = {}  # by job id

    def enter(self, job_id: str, idle_s: float, end: Callable[[], None]) -> None:
        """Keep a mover for `idle_s` at most; `end` is called when it cannot be kept any longer."""
        self.leave(job_id)
        timer = self._reactor.callLater(idle_s, self._end, job_id)
        self._parked[job_id] = _Parked(end, timer)
        while len(self._parked) > self._max_parked:
            self._end(next(iter(self._parked)))

    def leave(self, job_id: str) -> None:
        """Note that a mover works again, or has ended; repeating it has no effect."""
        parked = self._parked.pop(job_id, None)
        if parked is not None and parked.timer.active():
            parked.timer.cancel()

    def _end(self, job_id: str) -> None:
        parked = self._parked[job_id]
        self.leave(job_id)
        parked.end()
