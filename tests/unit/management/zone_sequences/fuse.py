# SPDX-License-Identifier: Apache-2.0
"""One daemon: whose turn it is, and where it is killed.

Nothing runs in threads. Whatever waits for the database continues in an order by chance, which a number
repeats; only writers keep their order, as they do in the database's thread. A kill comes before or after an
effect on the database, a disk, a store or a machine.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from systemvm.management.state.database import Database

T = TypeVar("T")


class Killed(BaseException):
    """The daemon has ended. No `except Exception` sees it, and nothing that follows has an effect."""


class Fuse:
    """Counts effects; the daemon ends at the one with the number that is set."""

    def __init__(self, order: random.Random, effects: int | None = None) -> None:
        self.is_blown = False
        self._order = order
        self._left = effects
        self._waiting: list[tuple[bool, Deferred[None]]] = []

    def set(self, effects: int) -> None:
        """Let the daemon end after so many effects from now."""
        self._left = effects

    def burn(self) -> None:
        """Count an effect. Raises: Killed when it is the last one or comes after that."""
        if self._left is not None:
            self._left -= 1
            self.is_blown = self.is_blown or self._left < 0
        if self.is_blown:
            raise Killed

    def blow(self) -> None:
        """End the daemon, and all that waits in it."""
        self.is_blown = True
        while self._waiting:
            self._waiting.pop()[1].errback(Killed())

    async def turn(self, *, writes: bool) -> None:
        """Wait for the turn of this caller."""
        if self.is_blown:
            raise Killed
        waiting: Deferred[None] = Deferred()
        self._waiting.append((writes, waiting))
        await waiting

    def give_turn(self) -> bool:
        """Let one of those that wait continue; return False when there is none."""
        if not self._waiting:
            return False
        chosen = self._order.choice(self._waiting)
        if chosen[0]:
            chosen = next(each for each in self._waiting if each[0])
        self._waiting.remove(chosen)
        chosen[1].callback(None)
        return True

    async def drive(self, work: Awaitable[T]) -> T:
        """Give turns until some work is complete. Raises: Killed when the daemon ends before."""
        ended: list[T | Failure] = []
        Deferred.fromCoroutine(_waited(work)).addBoth(ended.append)
        idle = 0
        while not ended:
            if not self.give_turn():
                idle += 1
                assert idle < 300, f"{work} waits for something else"
                turned: Deferred[None] = Deferred()
                reactor.callLater(0, turned.callback, None)
                await turned
        if isinstance(ended[0], Failure):
            ended[0].raiseException()
        return ended[0]


async def _waited(work: Awaitable[T]) -> T:
    return await work


def protect(database: Database, fuse: Fuse) -> None:
    """Have the transactions of a database take turns, on the reactor's thread."""

    async def run(function: Any, *arguments: Any, **more: Any) -> Any:
        await fuse.turn(writes=True)
        fuse.burn()
        result = database.run_now(function, *arguments, **more)
        fuse.burn()
        return result

    async def read(function: Any, *arguments: Any, **more: Any) -> Any:
        await fuse.turn(writes=False)
        return database._read_now(function, *arguments, **more)

    database.run, database.read = run, read  # type: ignore[method-assign]
