# SPDX-License-Identifier: Apache-2.0
"""The removal of what a job has left, which goes on when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from systemvm.service.scaled_timer import add_scaled_timeout


class Removal:
    """Whether a removal runs, also one whose caller has returned."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running: Deferred[None] | None = None

    @property
    def is_running(self) -> bool:
        return self._running is not None

    async def run(self, remove: Coroutine[Any, Any, None], at_most_s: float | None) -> None:
        """Run `remove`; return after `at_most_s` even when it hangs."""
        waiter: Deferred[None] = Deferred()

        def removed(_: object) -> None:
            self._running = None
            if not waiter.called:
                waiter.callback(None)

        self._running = Deferred.fromCoroutine(remove)
        self._running.addBoth(removed)
        if at_most_s is not None:
            add_scaled_timeout(waiter, at_most_s, self._reactor)
        with suppress(DeferredTimeout):
            await waiter
