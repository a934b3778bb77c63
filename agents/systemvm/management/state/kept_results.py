# SPDX-License-Identifier: Apache-2.0
"""What was read is kept, as long as nothing has changed that it depends on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from attrs import frozen

if TYPE_CHECKING:
    from systemvm.management.state.changes import Changes

T = TypeVar("T")

#: Results that are kept at most, where a page counts as its rows, and once more for their tags; the one that
#: was not used for the longest time is dropped first.
MAX_KEPT = 20_000
#: A larger result is not kept: it would take the place of too many others.
MAX_SIZE = MAX_KEPT // 20


def _one(_result: object) -> int:
    return 1


@frozen
class Kept(Generic[T]):
    """A result, and the last commit before it was read."""

    result: T
    commit: int
    size: int = 1


class KeptResults:
    """Results that still hold, of which the last used ones are kept."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Kept[Any]] = OrderedDict()
        self._size = 0

    def find(self, key: Hashable, topics: tuple[str, ...]) -> Kept[Any] | None:
        """Return what is kept for this key if it still holds."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not self._changes.unchanged_since(kept.commit, topics):
                return None
            self._kept.move_to_end(key)
            return kept

    def keep(
        self,
        key: Hashable,
        topics: tuple[str, ...],
        commit: int,
        compute: Callable[[], T],
        size_of: Callable[[T], int] = _one,
    ) -> T:
        """Return what `compute` returned for this key, unless a topic has changed since; else call it.

        `size_of` returns as how many results it counts; an empty one counts as one.
        `commit` is the last one before the transaction that `compute` reads in. That transaction still sees
        what it saw at its first query: with a later commit, what is kept would be outdated for ever.
        """
        kept: Kept[T] | None = self.find(key, topics)
        if kept is not None:
            return kept.result
        result = compute()
        size = max(1, size_of(result))
        with self._lock:
            outdated = self._kept.pop(key, None)
            self._size -= outdated.size if outdated else 0
            if size > MAX_SIZE:
                return result
            self._kept[key] = Kept(result, commit, size)
            self._size += size
            while self._size > MAX_KEPT:
                _, dropped = self._kept.popitem(last=False)
                self._size -= dropped.size
        return result


def keep(
    connection: sa.Connection,
    key: Hashable,
    topics: tuple[str, ...],
    compute: Callable[[sa.Connection], T],
    size_of: Callable[[T], int] = _one,
) -> T:
    """Do as `KeptResults.keep` on a reader's connection; a writer also sees what it has not committed."""
    options = connection.get_execution_options()
    kept: KeptResults | None = options.get("kept_for_readers")
    if kept is None:
        return compute(connection)
    noted: set[str] | None = options.get("read_topics")
    if noted is not None:
        noted.update(topics)
    return kept.keep(key, topics, options["commit_before"], lambda: compute(connection), size_of)
