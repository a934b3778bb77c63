# SPDX-License-Identifier: Apache-2.0
"""Limits how many passwords are hashed at the same time: Argon2 needs 64 MiB and a core for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.service.fair_queue import FairQueue

MAX_RUNNING = 2
MAX_WAITING = 64
MAX_WAITING_OF_SOURCE = 8

T = TypeVar("T")


class HashLimiter:
    """Runs hashes in threads, a few at a time; trusted sources first, then all others in a fair order."""

    def __init__(self, in_thread: Callable[..., Deferred[Any]] = deferToThread) -> None:
        self._in_thread = in_thread
        self._running = 0
        # two queues, so that many untrusted sources cannot fill the queue of trusted ones
        self._trusted: FairQueue[Deferred[None]] = FairQueue(MAX_WAITING, MAX_WAITING_OF_SOURCE)
        self._untrusted: FairQueue[Deferred[None]] = FairQueue(MAX_WAITING, MAX_WAITING_OF_SOURCE)

    async def run(self, source: str, trusted: bool, function: Callable[..., T], *arguments: object) -> T:
        """Run the function in a thread and return its result.

        Raises: ApiError 503 when too many wait already.
        """
        if self._running < MAX_RUNNING:
            self._running += 1
        else:
            await self._wait(source, self._trusted if trusted else self._untrusted)
        try:
            result: T = await self._in_thread(function, *arguments)
            return result
        finally:
            self._pass_on()

    async def _wait(self, source: str, queue: FairQueue[Deferred[None]]) -> None:
        turn: Deferred[None] = Deferred()
        without_room = queue.add(source, turn)
        if without_room is not None:
            without_room.errback(
                ApiError(
                    ErrorCode.BUSY, "too many logins are waiting", "try again in a moment", retry_after_s=1.0
                )
            )
        await turn

    def _pass_on(self) -> None:
        """Let the next one that waits run in the place of one that has ended."""
        for queue in (self._trusted, self._untrusted):
            if len(queue):
                queue.pop().callback(None)
                return
        self._running -= 1
