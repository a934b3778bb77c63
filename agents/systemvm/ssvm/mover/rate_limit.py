# SPDX-License-Identifier: Apache-2.0
"""A token bucket between a source and the pipeline: what is not read makes the server's TCP wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from systemvm.ssvm.mover.byte_source import ByteSource, WrappedSource

#: The bucket holds what comes in this time, and no read takes longer.
BURST_S = 0.25
#: How long a debt is waited for after the rate was changed.
MAX_DEBT_S = 2.0
#: Of a read: system calls for less cost more than they limit.
MIN_READ_BYTES = 4096
#: The longest wait between two looks at a limit that can have changed.
_MAX_WAIT_S = 0.5


class TokenBucket:
    """Sans-IO: what was read is taken afterwards, and the debt is waited for."""

    def __init__(self, bytes_per_s: int | None, now_s: float) -> None:
        self._rate = bytes_per_s
        self._tokens = 0.0
        self._at_s = now_s

    def set(self, bytes_per_s: int | None, now_s: float) -> None:
        """Change the rate; None is no limit. A debt stays, but is never longer than `MAX_DEBT_S`."""
        self._refill(now_s)
        self._rate = bytes_per_s
        self._tokens = 0.0 if bytes_per_s is None else max(self._tokens, -bytes_per_s * MAX_DEBT_S)

    def largest_read(self, wanted_bytes: int) -> int:
        if self._rate is None:
            return wanted_bytes
        return min(wanted_bytes, max(MIN_READ_BYTES, int(self._rate * BURST_S)))

    def take(self, count: int, now_s: float) -> None:
        self._refill(now_s)
        self._tokens -= count

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait before the next read."""
        self._refill(now_s)
        return 0.0 if self._rate is None or self._tokens >= 0 else -self._tokens / self._rate

    def _refill(self, now_s: float) -> None:
        if self._rate is None:
            self._tokens = 0.0
        else:
            gained = (now_s - self._at_s) * self._rate
            self._tokens = min(self._rate * BURST_S, self._tokens + gained)
        self._at_s = now_s


class RateLimit:
    """The bucket of a mover; `set` is called by another thread than the one that reads."""

    def __init__(
        self, bytes_per_s: int | None = None, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic_s = monotonic_s
        self._bucket = TokenBucket(bytes_per_s, monotonic_s())
        self._changed = threading.Condition()

    def set(self, bytes_per_s: int | None) -> None:
        with self._changed:
            self._bucket.set(bytes_per_s, self._monotonic_s())
            self._changed.notify_all()

    def largest_read(self, wanted_bytes: int) -> int:
        with self._changed:
            return self._bucket.largest_read(wanted_bytes)

    def spend(self, count: int) -> None:
        """Note what was read, and wait until as much more can be."""
        with self._changed:
            self._bucket.take(count, self._monotonic_s())
            while (wait_s := self._bucket.wait_s(self._monotonic_s())) > 0:
                self._changed.wait(min(wait_s, _MAX_WAIT_S))


class LimitedSource(WrappedSource):
    """A source whose reads are limited; the time that it waits is not the source's."""

    def __init__(self, source: ByteSource, limit: RateLimit) -> None:
        super().__init__(source)
        self._limit = limit

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`, and wait for the debt."""
        count = self._wrapped.read_into(buffer[: self._limit.largest_read(len(buffer))])
        self._limit.spend(count)
        return count
