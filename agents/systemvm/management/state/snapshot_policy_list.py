# SPDX-License-Identifier: Apache-2.0
"""Lists of policies that take snapshots of volumes by a schedule."""

from __future__ import annotations

import functools

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, snapshot_policies
from systemvm.management.state.listing import KEPT_LISTINGS, Listing, contains, that_fit
from systemvm.management.state.snapshot_policies import SnapshotPolicy
from systemvm.management.state.topics import columns

_c, _v = schema.snapshot_policies.c, schema.volumes.c
_ROWS = sa.select(*snapshot_policies.rows.columns, _v.uuid.label("volume_uuid")).select_from(
    schema.snapshot_policies.join(schema.volumes, _v.id == _c.volume_id)
)
_TOPICS = (*columns(schema.snapshot_policies, "removed", "account_id"), *columns(schema.volumes, "name"))


@frozen
class SnapshotPolicyFilter:
    """Conditions for a list of policies; None means any."""

    account_ids: frozenset[int] | None
    uuid: str | None = None
    volume_uuid: str | None = None
    keyword: str | None = None  # in the name of the volume, whatever its case


def page(
    connection: sa.Connection, which: SnapshotPolicyFilter, window: slice
) -> tuple[list[tuple[SnapshotPolicy, str]], int]:
    """Return policies and the UUIDs of their volumes in a window of the list, and how many there are.

    The oldest comes first.
    """
    listing = _listing(which)
    found = [
        (snapshot_policies.rows.value(row), row["volume_uuid"]) for row in listing.page(connection, window)
    ]
    return found, listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: SnapshotPolicyFilter) -> Listing:
    where: list[sa.ColumnElement[bool]] = [_c.removed.is_(None)]
    where += that_fit(
        exact=((_c.uuid, which.uuid), (_v.uuid, which.volume_uuid)),
        sets=((_c.account_id, which.account_ids),),
    )
    if which.keyword is not None:
        where.append(contains(_v.name, which.keyword))
    return Listing(
        key=("snapshot policies", which), rows=_ROWS, where=where, order_by=(_c.id,), topics=_TOPICS
    )
