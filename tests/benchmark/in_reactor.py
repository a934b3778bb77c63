# SPDX-License-Identifier: Apache-2.0
"""Runs what a benchmark measures in a reactor of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


def run(work: Callable[[Any], Awaitable[list[dict[str, Any]]]], kind: str = "epoll") -> list[dict[str, Any]]:
    """Return the rows of `work`, which gets the reactor; agents have one of epoll, the daemon of asyncio.

    Raises: SystemExit when it fails; the reason is printed.
    """
    if kind == "asyncio":
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
    else:
        from twisted.internet import epollreactor

        epollreactor.install()
    from twisted.internet import reactor, task
    from twisted.internet.defer import Deferred

    rows: list[dict[str, Any]] = []

    async def measured() -> None:
        await task.deferLater(reactor, 0)  # asyncio's loop runs only then
        rows.extend(await work(reactor))

    def begin(_: Any) -> Deferred[None]:
        coroutine: Coroutine[Deferred[Any], Any, None] = measured()
        return Deferred.fromCoroutine(coroutine)

    try:
        task.react(begin)
    except SystemExit as end:
        if end.code:
            raise
    return rows


def need_root() -> None:
    """Raises: SystemExit when this process cannot make network namespaces."""
    import os

    if os.geteuid() != 0:
        raise SystemExit("error: network namespaces cannot be made: run as root")
