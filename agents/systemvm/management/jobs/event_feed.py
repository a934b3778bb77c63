# SPDX-License-Identifier: Apache-2.0
"""Publish and subscribe by topic: publishers never wait, and a slow reader gets one for all it missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


def newest(_unread: T, value: T) -> T:
    """Return what a reader of states gets for two of them that it has not read."""
    return value


class Subscription(Generic[T]):
    """One reader: what it has not read, as one value, or the Deferred that it waits on."""

    def __init__(self, unite: Callable[[T, T], T]) -> None:
        self._unite = unite
        self._unread: list[T] = []
        self._waiting: Deferred[T] | None = None

    async def next(self) -> T:
        """Return what this reader has not read, as soon as there is something."""
        if self._unread:
            return self._unread.pop()
        self._waiting = Deferred()
        return await self._waiting

    def put(self, value: T) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.called:
            self._unread = [self._unite(unread, value) for unread in self._unread] or [value]
        else:
            waiting.callback(value)


class EventFeed(Generic[T]):
    """Subscriptions by topic. `unite` makes one of two values that a reader has not read."""

    def __init__(self, unite: Callable[[T, T], T] = newest) -> None:
        self._unite = unite
        self._topics: dict[str, list[Subscription[T]]] = {}

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription[T]]:
        """Subscribe to a topic while the context is open."""
        subscription: Subscription[T] = Subscription(self._unite)
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
