# SPDX-License-Identifier: Apache-2.0
"""Rows of answers with their JSON, used again while they are made of the same objects.

While one template of a list is downloaded, all others are as they were: an answer is then joined of rows that
are written already. See `systemvm.management.state.same_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import is_
from typing import Generic, TypeVar

import msgspec
from attrs import frozen

from systemvm.management.api.envelope import plain

A = TypeVar("A")

#: More are all forgotten, as in `SameRows`.
MAX_ROWS = 10_000


@frozen(eq=False)
class KeptRow(Generic[A]):
    answer: A
    json: msgspec.Raw
    made_of: tuple[object, ...]


class KeptRows(Generic[A]):
    """The rows that were answered last."""

    def __init__(self, most: int = MAX_ROWS) -> None:
        self._most = most
        self._rows: dict[Hashable, KeptRow[A]] = {}

    def get(self, key: Hashable, made_of: tuple[object, ...], make: Callable[[], A]) -> KeptRow[A]:
        """Return the row with this key if it was made of the very same objects; else make it.

        The key has everything else that the row depends on, such as what its reader has access to.
        """
        row = self._rows.get(key)
        if row is not None and len(row.made_of) == len(made_of) and all(map(is_, row.made_of, made_of)):
            return row
        answer = make()
        row = KeptRow(answer, msgspec.Raw(msgspec.json.encode(plain(answer))), made_of)
        if len(self._rows) >= self._most:
            self._rows.clear()
        self._rows[key] = row
        return row
