# SPDX-License-Identifier: Apache-2.0
"""A bounded queue that serves its sources round-robin, so that none of them blocks the others."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most `limit` items, and `limit_of_source` of one source; sans-IO."""

    def __init__(self, limit: int, limit_of_source: int) -> None:
        self._limit = limit
        self._limit_of_source = limit_of_source
        self._items: OrderedDict[str, deque[T]] = OrderedDict()  # the first source is served next
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, source: str, item: T) -> T | None:
        """Add an item.

        Return the one without room: the item itself, or the last of a source with more items.
        """
        own = len(self._items.get(source, ()))
        if own >= self._limit_of_source:
            return item
        evicted: T | None = None
        if self._count >= self._limit:
            heaviest = max(self._items, key=lambda name: len(self._items[name]))
            if len(self._items[heaviest]) <= own + 1:
                return item
            evicted = self._items[heaviest].pop()
            self._count -= 1
        self._items.setdefault(source, deque()).append(item)
        self._count += 1
        return evicted

    def pop(self, skipped: Collection[str] = ()) -> T:
        """Remove and return the next item, round-robin by source, of those that are not skipped.

        Raises: LookupError when there is none.
        """
        source = next((each for each in self._items if each not in skipped), None)
        if source is None:
            raise LookupError("the queue is empty")
        return self.pop_of(source)

    def pop_of(self, source: str) -> T:
        """Remove and return the next item of a source, whose turn is then after those of all others.

        Raises: LookupError when there is none.
        """
        items = self._items.pop(source)
        item = items.popleft()
        self._count -= 1
        if items:
            self._items[source] = items
        return item
