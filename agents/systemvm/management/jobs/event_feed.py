# SPDX-License-Identifier: Apache-2.0
"""Publish and subscribe by topic: publishers never wait, and a slow reader gets only the newest value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Subscription(Generic[T]):
    """One reader: the newest value that it has not read, or the Deferred that it waits on."""

    def __init__(self) -> None:
        self._unread: list[T] = []
        self._waiting: Deferred[T] | None = None

    async def next(self) -> T:
        """Return the newest value that this reader has not read, as soon as there is one."""
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
        """Subscribe to a topic while the context is open."""
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
