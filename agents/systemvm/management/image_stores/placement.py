# SPDX-License-Identifier: Apache-2.0
"""Places a copy on one of some stores, with what is already on its way to each."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.state import store_refs
from systemvm.management.state.database import Connection
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.store_choice import choose_store


def place_for(
    connection: Connection, stores: Sequence[ImageStore], threshold: float, size_bytes: int
) -> ImageStore:
    """Return the store for a copy of `size_bytes`.

    Raises: NoStoreError when none of `stores` takes it.
    """
    return choose_store(stores, threshold, store_refs.expected_bytes(connection), size_bytes)
