# SPDX-License-Identifier: Apache-2.0
"""Decides how many connections a transfer uses: another one stays only if all of them together get faster.

Sans-IO. Servers that limit each connection, and long paths, gain from several; a server that is fast with
one must not be disturbed.
"""

from __future__ import annotations

import enum

from systemvm.ssvm.limits import MIB

MAX_CONNECTIONS = 4
PERIOD_S = 2.0  # one measurement
SETTLE_S = 1.0  # after a change, until the next measurement begins
GROWTH = 1.2
#: A transfer this fast is limited by this machine.
FAST_BYTES_PER_S = 256 * MIB
#: The part of the time in which the receiver only waits; below it, this machine is the limit.
WAITING_PART = 0.5
REQUEST_AGAIN_S = 10.0  # when no connection comes
FIRST_HOLD_S, LAST_HOLD_S = 30.0, 600.0


class Change(enum.Enum):
    NONE = "none"
    ADD = "add"
    REMOVE = "remove"


class ConnectionGrowth:
    """The connections of one transfer; `observe` is called as often as bytes come."""

    def __init__(self, now_s: float, received_bytes: int, maximum: int = MAX_CONNECTIONS) -> None:
        self._maximum = maximum
        self.connections = 1
        self._baseline = 0.0  # bytes/s with one connection less
        self._is_trial = False
        self._hold_s = FIRST_HOLD_S
        self._held_until_s = now_s
        self._begin(now_s, received_bytes, 0.0)

    def observe(self, now_s: float, received_bytes: int, waited_s: float) -> Change:
        """Take a measurement when it is time; `waited_s` is the receiver's idle time since the beginning."""
        if now_s <= self._since_s:  # it settles after a change
            self._since_bytes, self._since_waited_s = received_bytes, waited_s
        if now_s - self._since_s < PERIOD_S:
            return Change.NONE
        elapsed_s = now_s - self._since_s
        rate = (received_bytes - self._since_bytes) / elapsed_s
        waits = (waited_s - self._since_waited_s) / elapsed_s >= WAITING_PART
        self._begin(now_s, received_bytes, waited_s)
        if self._is_trial:
            self._is_trial = False
            if rate < GROWTH * self._baseline:
                self._hold(now_s)
                return Change.REMOVE
            self._hold_s = FIRST_HOLD_S
        can_grow = self.connections < self._maximum and now_s >= self._held_until_s
        if can_grow and waits and rate < FAST_BYTES_PER_S:
            self._baseline = rate
            self._held_until_s = now_s + REQUEST_AGAIN_S
            return Change.ADD
        return Change.NONE

    def added(self, now_s: float, received_bytes: int, waited_s: float) -> None:
        """Note that another connection delivers: what it brings is measured after a moment."""
        self.connections += 1
        self._is_trial = True
        self._held_until_s = now_s
        self._begin(now_s + SETTLE_S, received_bytes, waited_s)

    def removed(self, now_s: float, received_bytes: int, waited_s: float) -> None:
        """Note that a connection has ended, by a decision or by its server."""
        self.connections = max(1, self.connections - 1)
        self._is_trial = False
        self._begin(now_s, received_bytes, waited_s)

    def restarted(self, now_s: float, received_bytes: int, waited_s: float) -> None:
        """Note that the transfer goes on over one connection."""
        self.connections, self._is_trial = 1, False
        self._begin(now_s, received_bytes, waited_s)

    def refused(self, now_s: float, retry_after_s: float | None = None) -> None:
        """Note that the server does not want another connection."""
        self._hold(now_s, retry_after_s or 0.0)

    def _hold(self, now_s: float, at_least_s: float = 0.0) -> None:
        self._held_until_s = now_s + max(self._hold_s, at_least_s)
        self._hold_s = min(LAST_HOLD_S, 2 * self._hold_s)

    def _begin(self, now_s: float, received_bytes: int, waited_s: float) -> None:
        self._since_s, self._since_bytes, self._since_waited_s = now_s, received_bytes, waited_s
