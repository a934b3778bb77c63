# SPDX-License-Identifier: Apache-2.0
"""How full stores are beside each other, for what is to be placed or moved.

A bucket without a capacity is never full. Beside others it counts as large as the largest of them, and
buckets without one are compared by what they hold. An export that was never measured counts as empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from systemvm.management.state.zones import ImageStore


class Fullness:
    """The stores of one choice, with what is on its way to each, `expected_bytes` by store."""

    def __init__(self, stores: Sequence[ImageStore], expected_bytes: Mapping[int, int] | None = None) -> None:
        expected = expected_bytes or {}
        self._used = {store.id: (store.used_bytes or 0) + expected.get(store.id, 0) for store in stores}
        largest = max((store.capacity_bytes or 0 for store in stores), default=0)
        self._unlimited_bytes = largest or max(self._used.values(), default=0) or 1

    def ratio(self, store: ImageStore, more_bytes: int = 0) -> float:
        """Return how full a store is with `more_bytes`; 1 is full, except for one without a capacity."""
        capacity_bytes = store.capacity_bytes or (self._unlimited_bytes if store.is_bucket else 0)
        return (self._used[store.id] + more_bytes) / capacity_bytes if capacity_bytes else 0.0

    def has_room(self, store: ImageStore, threshold: float, size_bytes: int = 0) -> bool:
        """Whether a store takes new content, and stays below the threshold with `size_bytes` of it."""
        if store.is_unlimited:
            return True
        return self.ratio(store) < threshold and self.ratio(store, size_bytes) <= threshold

    def move(self, source: ImageStore, target: ImageStore, size_bytes: int) -> None:
        """Count content that is to move as on its new store."""
        self._used[source.id] -= size_bytes
        self._used[target.id] += size_bytes
