# SPDX-License-Identifier: Apache-2.0
"""Which topics have changed, and when: a number for each commit, of this process or another."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from systemvm.management.state.topics import EVERYTHING
from systemvm.management.state.wal_commits import WRAP


class Changes:
    """Numbers the commits, and notes the last one that changed each topic.

    `count_commits` returns how many were made, by this process or another, such as the sqlite3 shell. One
    of another changes everything.
    """

    def __init__(self, count_commits: Callable[[], int] = int) -> None:
        self._lock = threading.Lock()
        self._count_commits = count_commits
        self._counted = count_commits()
        #: Held while a commit of this process is made and noted.
        self._committing = threading.Lock()
        #: The topics of the own commit that is made now, which is counted or not yet.
        self._under_way: Collection[str] | None = None
        self._commit = 0
        self._last: dict[str, int] = {}
        self._listeners: list[Callable[[frozenset[str]], None]] = []

    def listen(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Have `listener` called with the topics of each commit of this process, on the writer's thread."""
        self._listeners.append(listener)

    @contextmanager
    def committing(self, topics: Collection[str], data_version: Callable[[], int]) -> Iterator[None]:
        """Commit a transaction that changed these topics within this, while it has the write lock.

        Without this, an own commit could not be told from one of another process until it is noted, and would
        change everything. SQLite counts no commit of a transaction that left all pages as they were. So
        `data_version` returns SQLite's number that the commits of all other connections change, as the
        committing connection sees it. One of them beside a commit that is not counted is noticed when that
        one is noted, and not before.
        """
        with self._committing:
            before = data_version()
            with self._lock:
                self._notice_others()
                self._under_way = topics
            try:
                yield
            except BaseException:
                with self._lock:
                    self._under_way = None
                raise
            count = self._count_commits()  # before the version: others that it contains change that
            try:
                is_alone = data_version() == before
            except sqlite3.Error:
                is_alone = False  # it is committed, whatever cannot be read afterwards
            with self._lock:
                self._under_way = None
                self._counted = count
                self._note(topics if is_alone else (*topics, EVERYTHING))
                self._notice_others()
        self._tell(topics)

    def committed(self, topics: Iterable[str]) -> None:
        """Note that these topics were changed."""
        with self._lock:
            self._note(topics)
        self._tell(topics)

    def _tell(self, topics: Iterable[str]) -> None:
        for listener in self._listeners:
            listener(frozenset(topics))

    @property
    def commit(self) -> int:
        """The last commit. Take it before a read: another one meanwhile makes the result outdated."""
        return self._commit

    def unchanged_since(self, commit: int, topics: Iterable[str]) -> bool:
        """Return whether no later commit changed one of these topics."""
        with self._lock:
            return self._is_unchanged(commit, topics)

    def _note(self, topics: Iterable[str]) -> None:
        self._commit += 1
        self._last.update(dict.fromkeys(topics, self._commit))

    def _notice_others(self) -> None:
        """Note the commits of others, which are those that are too many."""
        own, ahead = int(self._under_way is not None), (self._count_commits() - self._counted) % WRAP
        if ahead > own:
            self._counted = (self._counted + ahead - own) % WRAP
            self._note((EVERYTHING,))

    def _is_unchanged(self, commit: int, topics: Iterable[str]) -> bool:
        self._notice_others()
        last = self._last.get
        if last(EVERYTHING, 0) > commit:
            return False
        if own := self._under_way:
            topics = tuple(topics)
            if EVERYTHING in own or any(topic in own for topic in topics):
                return False  # its rows can be visible already
        return all(last(topic, 0) <= commit for topic in topics)
