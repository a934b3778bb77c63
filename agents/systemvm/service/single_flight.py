# SPDX-License-Identifier: Apache-2.0
"""Runs work once at a time for each key; callers that arrive while it runs get the same result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)


class SingleFlight(Generic[K]):
    """Work by key; two runs of the same key never overlap.

    The key is claimed before the first await of the work. The work belongs to none of its callers: it
    continues when one of them is cancelled, and the next caller joins it.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[Any]]] = {}

    def __contains__(self, key: K) -> bool:
        """Whether work of this key runs."""
        return key in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def running(self) -> list[K]:
        """Return the keys of running work, oldest first."""
        return list(self._waiting)

    async def run(self, key: K, work: Callable[[], Awaitable[Any]]) -> Any:
        """Join the work of this key, or start it; every caller gets its result or its exception."""
        begins = key not in self._waiting
        waiter = self._join(key)
        if begins:
            self._begin(key, work)
        return await waiter

    def start(self, key: K, work: Callable[[], Awaitable[Any]]) -> bool:
        """Start work without waiting for it; its failure is logged. Return False when it runs already."""
        if key in self._waiting:
            return False
        self._waiting[key] = []
        self._begin(key, work)
        return True

    async def wait_until_ended(self, key: K) -> None:
        """Wait until the running work of this key has ended, whatever its outcome."""
        if key in self._waiting:
            ended: Deferred[None] = Deferred()
            # a Deferred of its own: a failure of the waiter is ignored here, and a cancellation must not be
            self._join(key).addBoth(lambda _: ended.callback(None))
            await ended

    def _begin(self, key: K, work: Callable[[], Awaitable[Any]]) -> None:
        async def all_of_it() -> Any:
            return await work()

        Deferred.fromCoroutine(all_of_it()).addBoth(self._end, key)

    def _join(self, key: K) -> Deferred[Any]:
        waiter: Deferred[Any] = Deferred()
        self._waiting.setdefault(key, []).append(waiter)
        return waiter

    def _end(self, outcome: Any, key: K) -> None:
        waiters = [waiter for waiter in self._waiting.pop(key) if not waiter.called]  # otherwise cancelled
        if not waiters and isinstance(outcome, Failure):
            self._log.failure("{key} failed without a caller that waits for it", failure=outcome, key=key)
        for waiter in waiters:
            if isinstance(outcome, Failure):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)
