# SPDX-License-Identifier: Apache-2.0
"""What was told lately: agents dial every half minute, and what repeats itself must not fill the events."""

from __future__ import annotations

from collections.abc import Callable

QUIET_S = 600.0
MAX_REMEMBERED = 256


class LogRateLimiter:
    """The same is told once in ten minutes; what is remembered for that is bounded."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._told_s: dict[tuple[str, ...], float] = {}

    def allows(self, *what: str) -> bool:
        """Whether this was not told lately; from now on it was.

        >>> news = LogRateLimiter(lambda: 0.0)
        >>> news.allows("s-1-VM", "expired"), news.allows("s-1-VM", "expired")
        (True, False)
        """
        now_s, told_s = self._seconds(), self._told_s.get(what)
        if told_s is not None and now_s - told_s < QUIET_S:
            return False
        if len(self._told_s) >= MAX_REMEMBERED:
            self._told_s.clear()
        self._told_s[what] = now_s
        return True
