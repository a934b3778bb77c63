# SPDX-License-Identifier: Apache-2.0
"""One call at a time for each key: whoever asks while it runs waits for the same answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)


class SingleFlight(Generic[K]):
    """Work by key, of which no two instances ever run side by side.

    The key is claimed before the work's first await. The work belongs to none of its callers: one that is
    cancelled, by its deadline or because it hung up, leaves alone, and the next to ask joins what still runs.
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
        """The keys of what runs, oldest first."""
        return list(self._waiting)

    async def run(self, key: K, work: Callable[[], Awaitable[Any]]) -> Any:
        """Join the work of this key, or start it; its result or its exception goes to every caller."""
        begins = key not in self._waiting
        waiter = self._join(key)
        if begins:
            self._begin(key, work)
        return await waiter

    def start(self, key: K, work: Callable[[], Awaitable[Any]]) -> bool:
        """Start work that nobody waits for, its failure is logged; False when it runs already."""
        if key in self._waiting:
            return False
        self._waiting[key] = []
        self._begin(key, work)
        return True

    async def wait_until_ended(self, key: K) -> None:
        """Wait for the end of the work of this key that runs now, whatever comes of it."""
        if key in self._waiting:
            ended: Deferred[None] = Deferred()
            # of its own, as the waiter's failures are swallowed and its cancelling would be, too
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
        waiters = [waiter for waiter in self._waiting.pop(key) if not waiter.called]  # else cancelled
        if not waiters and isinstance(outcome, Failure):
            self._log.failure("{key} failed, and nobody waits for it", failure=outcome, key=key)
        for waiter in waiters:
            if isinstance(outcome, Failure):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)
