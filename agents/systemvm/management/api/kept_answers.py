# SPDX-License-Identifier: Apache-2.0
"""Answers of lists, kept as they were sent until a table that they were read from changes.

Pages, dashboards and Ansible ask for the same lists again and again, and most times nothing has changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from attrs import frozen

from systemvm.management.state.changes import Changes
from systemvm.management.state.topics import reads_of_task

#: Longer answers are seldom asked for twice.
MAX_ANSWER_BYTES = 64 * 1024
MAX_BYTES = 16 * 1024 * 1024


@frozen
class _Answer:
    body: bytes
    commit: int  # the last one before it was made
    tables: frozenset[str]


class KeptAnswers:
    """The answers that were asked for last, of at most `MAX_BYTES` together."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._bytes = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the answer that is kept for this key if it still holds; else make it."""
        kept = self._answers.get(key)
        if kept is not None:
            if self._changes.unchanged_since(kept.commit, kept.tables):
                self._answers.move_to_end(key)
                return kept.body
            self._forget(key)
        commit, tables = self._changes.commit, set[str]()
        token = reads_of_task.set(tables)
        try:
            body = await make()
        finally:
            reads_of_task.reset(token)
        if len(body) <= MAX_ANSWER_BYTES:
            self._keep(key, _Answer(body, commit, frozenset(tables)))
        return body

    def _keep(self, key: Hashable, answer: _Answer) -> None:
        self._forget(key)  # another call can have made it meanwhile
        self._answers[key] = answer
        self._bytes += len(answer.body)
        while self._bytes > MAX_BYTES:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: Hashable) -> None:
        gone = self._answers.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone.body)
