# SPDX-License-Identifier: Apache-2.0
"""Between the daemon's coroutines, which await Deferreds, and asyncio's (qemu.qmp, child processes)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


def in_asyncio(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Run an asyncio coroutine on the reactor's own loop; cancelling the Deferred cancels it."""
    # not get_running_loop: the reactor calls its first functions just before its loop runs
    return Deferred.fromFuture(asyncio.get_event_loop().create_task(coroutine))


async def in_twisted(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
    """The other way: one of the daemon's coroutines, awaited by one of asyncio."""
    result: T = await Deferred.fromCoroutine(coroutine).asFuture(asyncio.get_running_loop())
    return result
