# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next attempt: twice as long each time, with jitter against retries in step."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Backoff:
    """Waits of at most `first_s`, then twice as much each time, up to `last_s`.

    `jitter` is the part of a wait that is left to chance, 0 to 1: the defaults give 0.5–1 s, 1–2 s, … 4–8 s.
    """

    def __init__(
        self,
        *,
        first_s: float = 1.0,
        last_s: float = 8.0,
        jitter: float = 0.5,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._jitter = jitter
        self._uniform = uniform
        self._longest_s = first_s

    def next_s(self, at_most_s: float | None = None) -> float:
        """Return the next wait in seconds; `at_most_s` bounds it where an attempt costs the peer nothing."""
        longest_s = min(self._last_s, self._longest_s, at_most_s or self._last_s)
        self._longest_s = 2 * longest_s
        return self._uniform((1.0 - self._jitter) * longest_s, longest_s) if self._jitter else longest_s

    def reset(self) -> None:
        """Begin again with the shortest wait, after a success."""
        self._longest_s = self._first_s


class KeyedBackoff(Generic[K]):
    """A backoff for each key, from the first failure of the key to its next success."""

    def __init__(
        self,
        seconds: Callable[[], float],
        *,
        first_s: float,
        last_s: float,
        jitter: float = 0.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._seconds = seconds
        self._last_s = last_s
        self._new = lambda: Backoff(first_s=first_s, last_s=last_s, jitter=jitter, uniform=uniform)
        self._backoffs: dict[K, Backoff] = {}
        self._not_before: dict[K, float] = {}

    def failed(self, key: K) -> float:
        """Record a failure, and return how long to wait in seconds."""
        if key not in self._backoffs:
            self._backoffs[key] = self._new()
        wait_s = self._backoffs[key].next_s()
        self._not_before[key] = self._seconds() + wait_s
        return wait_s

    def succeeded(self, key: K) -> None:
        """Forget the failures of a key."""
        self._backoffs.pop(key, None)
        self._not_before.pop(key, None)

    def due_in_s(self, key: K) -> float:
        """Return the seconds until the key can be tried again; 0 when that is now."""
        return max(0.0, self._not_before.get(key, 0.0) - self._seconds())

    def waiting(self) -> list[K]:
        """Return the keys that cannot be tried yet."""
        now_s = self._seconds()
        return [key for key, not_before_s in self._not_before.items() if not_before_s > now_s]

    def forget(self, keep: Callable[[K], bool] = lambda key: False) -> None:
        """Forget all failures but those of the keys for which `keep` is true."""
        for key in [key for key in self._not_before if not keep(key)]:
            self.succeeded(key)

    def forget_old(self) -> None:
        """Forget keys that have been due for longer than the longest wait: they are not used any more."""
        before_s = self._seconds() - self._last_s
        self.forget(lambda key: self._not_before[key] >= before_s)
