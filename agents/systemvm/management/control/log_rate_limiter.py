# SPDX-License-Identifier: Apache-2.0
"""Limits repeated events: agents dial every half minute, and a repeated failure must not fill the log."""

from __future__ import annotations

from collections.abc import Callable

INTERVAL_S = 600.0
MAX_REMEMBERED = 256


class LogRateLimiter:
    """Allows the same event once in `INTERVAL_S`; its memory is bounded."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._recorded_s: dict[tuple[str, ...], float] = {}

    def allows(self, *event: str) -> bool:
        """Return whether an event is due, and count it as recorded.

        >>> limiter = LogRateLimiter(lambda: 0.0)
        >>> limiter.allows("s-1-VM", "expired"), limiter.allows("s-1-VM", "expired")
        (True, False)
        """
        now_s, recorded_s = self._seconds(), self._recorded_s.get(event)
        if recorded_s is not None and now_s - recorded_s < INTERVAL_S:
            return False
        if len(self._recorded_s) >= MAX_REMEMBERED:
            self._recorded_s.clear()
        self._recorded_s[event] = now_s
        return True
