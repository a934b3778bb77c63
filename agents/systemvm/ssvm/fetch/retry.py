# SPDX-License-Identifier: Apache-2.0
"""When a broken transfer is retried, and when retries end.

Full-jitter exponential backoff (AWS Architecture Blog, "Exponential Backoff And Jitter"). Progress renews the
budget: a source that keeps sending can break off any number of times, one that sends nothing uses up its
time, and one that never gets beyond the same byte uses up its restarts.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.transfer_failure import TransferFailure


class RetryBudget:
    """The budget of one job; `seconds` is a clock, `uniform` draws a delay from 0 to its argument."""

    def __init__(
        self,
        limits: TransferLimits,
        seconds: Callable[[], float],
        uniform: Callable[[float], float] = lambda high: random.uniform(0, high),  # noqa: S311 - no secret
    ) -> None:
        self._limits = limits
        self._seconds = seconds
        self._uniform = uniform
        self._attempts = 0
        self._failing_since_s: float | None = None
        self._mark_bytes = 0
        self._received_bytes = 0  # of the file, on this attempt
        self._has_received = False
        self._deaths = 0
        self._best_bytes = 0
        self._fruitless_restarts = 0

    def note_progress(self, received_bytes: int) -> None:
        """Record the number of received bytes; enough new ones renew the budget."""
        self._received_bytes = received_bytes
        self._has_received = True
        if received_bytes >= self._mark_bytes + self._limits.retry_progress_bytes:
            self._mark_bytes = received_bytes
            self._attempts = 0
            self._failing_since_s = None

    def renew(self) -> None:
        """Give it all of its time again: somebody else decides when to end."""
        self._attempts = 0
        self._failing_since_s = None

    def is_transient(self, error: TransferError) -> bool:
        """Whether the same request can succeed later.

        A name that does not exist, and a page in place of a file, can be a fault of a moment only for a
        source that has sent a part of the file; so can an error of a store that has taken a part of it, whose
        server can be gone for longer than the mount waits.
        """
        if not self._has_received and error.code is TransferFailure.NAME_NOT_FOUND:
            return False
        if self._has_received and error.code is TransferFailure.STORE_FAILED:
            return True
        return error.code.is_retryable or error.code is TransferFailure.SOURCE_CHANGED

    def next_delay_s(self, error: TransferError | None = None) -> float | None:
        """Return how long to wait before the next attempt; None when the budget is used up.

        Its time begins with the first failure since the last progress: an earlier wait for the store, or a
        slow source, uses up none of it. A server that demands a longer wait gets it.
        """
        if self._failing_since_s is None:
            self._failing_since_s = self._seconds()
        left_s = self._failing_since_s + self._budget_s(error) - self._seconds()
        at_least_s = (error.retry_after_s if error is not None else None) or 0.0
        if left_s <= 0 or at_least_s > left_s:
            return None
        high_s = min(self._limits.retry_max_delay_s, self._limits.retry_base_delay_s * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 16)  # 2**16 is beyond any maximum
        return min(at_least_s + self._uniform(high_s), left_s)

    def _budget_s(self, error: TransferError | None) -> float:
        if self._has_received:
            return self._limits.retry_budget_s
        if error is not None and error.code is TransferFailure.CONNECTION_REFUSED:
            return min(self._limits.refused_budget_s, self._limits.first_byte_budget_s)
        return self._limits.first_byte_budget_s

    def replace_worker(self) -> bool:
        """Note that a mover has died; return False when another one would do no better."""
        if self._received_bytes >= self._best_bytes + self._limits.retry_progress_bytes:
            self._best_bytes, self._deaths = self._received_bytes, 0
        self._deaths += 1
        self._received_bytes = self._mark_bytes = 0
        return self._deaths <= 1

    def restart(self) -> bool:
        """Start another mover; return False when too many of them got no further than the ones before."""
        if self._received_bytes > self._best_bytes:
            self._best_bytes = self._received_bytes
            self._fruitless_restarts = 0
        if self._received_bytes:  # a restart that did not even connect uses up time only
            self._fruitless_restarts += 1
        self._received_bytes = self._mark_bytes = 0
        return self._fruitless_restarts <= self._limits.max_fruitless_restarts
