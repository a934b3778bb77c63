# SPDX-License-Identifier: Apache-2.0
"""When a start that failed may be tried again: a broken zone must not flood logs or use up numbers."""

from __future__ import annotations

from collections.abc import Callable


class StartBackoff:
    """Doubling waits by key; a success forgets them."""

    def __init__(self, seconds: Callable[[], float], *, first_s: float, last_s: float) -> None:
        self._seconds = seconds
        self._first_s = first_s
        self._last_s = last_s
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def failed(self, key: str) -> float:
        """Note a failure; returns how long to wait."""
        failures = self._failures.get(key, 0)
        wait_s = min(self._last_s, self._first_s * 2.0**failures)
        self._failures[key] = failures + 1
        self._not_before[key] = self._seconds() + wait_s
        return wait_s

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    def due_in_s(self, key: str) -> float:
        """0 when it may be tried now."""
        return max(0.0, self._not_before.get(key, 0.0) - self._seconds())
