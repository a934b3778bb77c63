# SPDX-License-Identifier: Apache-2.0
"""News by topic: publishers never wait, and a reader that is slow gets the newest and not all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Subscription(Generic[T]):
    """One reader's place: the newest unread value, or the reader that waits for it."""

    def __init__(self) -> None:
        self._unread: list[T] = []
        self._waiting: Deferred[T] | None = None

    async def next(self) -> T:
        """The newest value that this reader has not had, as soon as there is one."""
        if self._unread:
            return self._unread.pop()
        self._waiting = Deferred()
        return await self._waiting

    def put(self, value: T) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.called:
            self._unread = [value]
        else:
            waiting.callback(value)


class EventFeed(Generic[T]):
    """Subscriptions by topic."""

    def __init__(self) -> None:
        self._topics: dict[str, list[Subscription[T]]] = {}

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription[T]]:
        """Everything published on a topic while the context is open."""
        subscription: Subscription[T] = Subscription()
        self._topics.setdefault(topic, []).append(subscription)
        try:
            yield subscription
        finally:
            readers = self._topics[topic]
            readers.remove(subscription)
            if not readers:
                del self._topics[topic]

    def publish(self, topic: str, value: T) -> None:
        for subscription in list(self._topics.get(topic, ())):
            subscription.put(value)
