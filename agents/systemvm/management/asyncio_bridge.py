# SPDX-License-Identifier: Apache-2.0
"""Connects the daemon's coroutines, which await Deferreds, with asyncio's (qemu.qmp, child processes)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def in_asyncio(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Run an asyncio coroutine on the reactor's own loop; cancelling the Deferred cancels it."""
    # not get_running_loop: the reactor calls its first functions before its loop runs
    running: Deferred[T] = Deferred.fromFuture(asyncio.get_event_loop().create_task(coroutine))
    return running.addErrback(_as_cancelled)


def _as_cancelled(failure: Failure) -> NoReturn:
    """Convert asyncio's CancelledError to Twisted's, which callers of a Deferred expect."""
    if failure.check(asyncio.CancelledError):
        raise CancelledError from None
    failure.raiseException()


async def in_twisted(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
    """Await one of the daemon's coroutines in asyncio."""
    result: T = await Deferred.fromCoroutine(coroutine).asFuture(asyncio.get_running_loop())
    return result
