# SPDX-License-Identifier: Apache-2.0
"""Chooses the next call of a root helper, in bounded queues: a hung store does not block the others.

Sans-IO: no clocks and no processes. Calls are grouped by caller and store: each group has slots and a queue
of its own, so a store that hangs, or a caller that floods, fills only its own.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import frozen

T = TypeVar("T")


@frozen
class QueueLimits:
    """How many calls can run and wait, in all and in one group."""

    max_running: int = 32
    max_running_per_group: int = 4
    max_waiting: int = 256
    max_waiting_per_group: int = 64


DEFAULT_LIMITS = QueueLimits()


@frozen
class QueuedCall(Generic[T]):
    """One call: `group` names its caller and store."""

    group: str
    expires_s: float | None  # its caller's deadline, seconds on CLOCK_MONOTONIC; None without one
    payload: T
    #: Calls with a key in common never run at the same time: changes of one job, one template, one mount.
    exclusive: frozenset[str] = frozenset()


class CallQueue(Generic[T]):
    """The calls that wait, and the number of those that run."""

    def __init__(self, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._waiting: OrderedDict[int, QueuedCall[T]] = OrderedDict()
        self._waiting_by_group: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._running_keys: set[str] = set()
        self._next = 0

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def next_expiry_s(self) -> float | None:
        """The earliest deadline of the calls that wait, in seconds on CLOCK_MONOTONIC."""
        return min(
            (call.expires_s for call in self._waiting.values() if call.expires_s is not None), default=None
        )

    def counts_of(self, group: str) -> tuple[int, int]:
        """Return how many calls of a group run and wait."""
        return self._running[group], self._waiting_by_group[group]

    def admit(self, call: QueuedCall[T]) -> int | None:
        """Queue a call and return its ticket.

        None when the queue of its group, or the whole queue, is full.
        """
        if (
            len(self._waiting) >= self._limits.max_waiting
            or self._waiting_by_group[call.group] >= self._limits.max_waiting_per_group
        ):
            return None
        self._next += 1
        self._waiting[self._next] = call
        self._waiting_by_group[call.group] += 1
        return self._next

    def withdraw(self, ticket: int) -> None:
        """Remove a call that still waits, because its caller has disconnected."""
        call = self._waiting.pop(ticket, None)
        if call is not None:
            self._leave(call.group)

    def take_expired(self, now_s: float) -> Iterator[QueuedCall[T]]:
        """Remove and yield the calls whose deadline has passed."""
        for ticket, call in list(self._waiting.items()):
            if call.expires_s is not None and call.expires_s <= now_s:
                self.withdraw(ticket)
                yield call

    def take_ready(self) -> Iterator[QueuedCall[T]]:
        """Remove and yield the calls that can run now, oldest first; each counts as running until `ended`."""
        # keys of older calls that still wait: what these exclude does not overtake them
        passed: set[str] = set()
        for ticket, call in list(self._waiting.items()):
            if self.running >= self._limits.max_running:
                return
            has_slot = self._running[call.group] < self._limits.max_running_per_group
            if has_slot and call.exclusive.isdisjoint(self._running_keys | passed):
                self.withdraw(ticket)
                self._running[call.group] += 1
                self._running_keys |= call.exclusive
                yield call
            else:
                passed |= call.exclusive

    def ended(self, call: QueuedCall[T]) -> None:
        """Record that a call from `take_ready` has ended."""
        self._running_keys -= call.exclusive
        self._running[call.group] -= 1
        if self._running[call.group] <= 0:
            del self._running[call.group]

    def _leave(self, group: str) -> None:
        self._waiting_by_group[group] -= 1
        if self._waiting_by_group[group] <= 0:
            del self._waiting_by_group[group]
