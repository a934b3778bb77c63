# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next attempt: twice as long each time, and never all agents at once."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.5
LAST_S = 8.0  # a daemon that was away for a minute has all its agents back within ten seconds


class Backoff:
    """Waits of 0.5–1 s, 1–2 s, … 4–8 s."""

    def __init__(
        self,
        *,
        first_s: float = FIRST_S,
        last_s: float = LAST_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._uniform = uniform
        self._upper_s = first_s

    def next_s(self, at_most_s: float | None = None) -> float:
        """The next wait; `at_most_s` when asking again costs the other end nothing."""
        self._upper_s = min(self._last_s, 2 * self._upper_s, at_most_s or self._last_s)
        return self._uniform(self._upper_s / 2, self._upper_s)

    def reset(self) -> None:
        """It worked: begin again with the shortest."""
        self._upper_s = self._first_s
