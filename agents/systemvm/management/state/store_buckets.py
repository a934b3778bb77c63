# SPDX-License-Identifier: Apache-2.0
"""What reaches the buckets that are image stores, and what holds for them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.rows import Rows


@frozen
class StoreBucketRow:
    """The keys of one bucket, its settings, and what an operator gives it."""

    id: int
    store_id: int
    access_key: str = field(repr=False)
    sealed_secret: bytes = field(repr=False)
    region: str
    ca_pem: str | None = field(repr=False)
    capacity_bytes: int | None  # None: as much as it takes
    has_public_links: bool  # users reach the endpoint, by presigned links


rows = Rows(schema.store_buckets, StoreBucketRow, "bucket")
_c = schema.store_buckets.c


def put(connection: sa.Connection, /, store_id: int, **values: Any) -> None:
    rows.insert(connection, store_id=store_id, **values)


def update(connection: sa.Connection, /, row_id: int, **changes: Any) -> None:
    rows.update(connection, row_id, **changes)


def of_store(connection: sa.Connection, store_id: int) -> StoreBucketRow | None:
    return rows.one(connection, _c.store_id == store_id)


def forget(connection: sa.Connection, store_id: int) -> None:
    """Delete the keys of a store that the cloud has no more."""
    connection.execute(schema.store_buckets.delete().where(_c.store_id == store_id))
