# SPDX-License-Identifier: Apache-2.0
"""When what failed may be tried again, by key: what is broken or busy must not be asked without end."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_MAX_DOUBLINGS = 64  # beyond any longest wait; a float overflows at 1024, which a day of failures reaches


class KeyedBackoff(Generic[K]):
    """Doubling waits by key, from `first_s` to `last_s`; a success forgets them.

    `jitter` is the part of a wait that is left to chance (0 to 1), so that not all try again at once.
    """

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
        self._first_s = first_s
        self._last_s = last_s
        self._jitter = jitter
        self._uniform = uniform
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}

    def failed(self, key: K) -> float:
        """Note a failure; returns how long to wait."""
        failures = self._failures.get(key, 0)
        wait_s = min(self._last_s, self._first_s * 2.0 ** min(failures, _MAX_DOUBLINGS))
        wait_s *= self._uniform(1.0 - self._jitter, 1.0) if self._jitter else 1.0
        self._failures[key] = failures + 1
        self._not_before[key] = self._seconds() + wait_s
        return wait_s

    def succeeded(self, key: K) -> None:
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    def due_in_s(self, key: K) -> float:
        """0 when it may be tried now."""
        return max(0.0, self._not_before.get(key, 0.0) - self._seconds())

    def waiting(self) -> list[K]:
        """The keys that may not be tried now."""
        now_s = self._seconds()
        return [key for key, not_before_s in self._not_before.items() if not_before_s > now_s]

    def forget(self, keep: Callable[[K], bool] = lambda key: False) -> None:
        """Forget all failures but those of the keys that `keep` names."""
        for key in [key for key in self._not_before if not keep(key)]:
            self.succeeded(key)

    def forget_old(self) -> None:
        """Forget what has been due for longer than the longest wait: nobody asks for it any more."""
        before_s = self._seconds() - self._last_s
        self.forget(lambda key: self._not_before[key] >= before_s)
