# SPDX-License-Identifier: Apache-2.0
"""Wait until no thread has work left, instead of sleeping until it probably has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from systemvm.management.state.database import Database


class _ThreadPoolWork:
    """Count the work of the reactor's thread pool, callbacks included."""

    def __init__(self) -> None:
        pool = reactor.getThreadPool()  # type: ignore[attr-defined]
        self._submit = pool.callInThreadWithCallback
        pool.callInThreadWithCallback = self._call
        self.under_way = 0
        self._waiting: list[Deferred[None]] = []

    def _call(
        self,
        on_result: Callable[[bool, Any], None] | None,
        function: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        def done(success: bool, result: Any) -> None:
            if on_result is not None:
                on_result(success, result)
            # in order: deferToThread's own callback was queued a line above
            reactor.callFromThread(self._finished)  # type: ignore[attr-defined]

        self.under_way += 1
        self._submit(done, function, *args, **kwargs)

    def _finished(self) -> None:
        self.under_way -= 1
        if not self.under_way:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    async def wait_until_idle(self) -> None:
        if self.under_way:
            idle: Deferred[None] = Deferred()
            self._waiting.append(idle)
            await idle


_POOL = _ThreadPoolWork()


async def settled(database: Database) -> None:
    """Return when all work of the database and of the reactor's threads is done, and its callbacks too.

    What remains then waits for a clock or a fake that the test itself advances.
    """
    while True:
        await database.drain()
        await _POOL.wait_until_idle()
        for _ in range(3):
            await _reactor_turn()
        if not database._under_way and not _POOL.under_way:
            return


async def _reactor_turn() -> None:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    await turned
