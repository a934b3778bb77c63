# SPDX-License-Identifier: Apache-2.0
"""Records how full a store is, and reports when that passes the zone's threshold."""

from __future__ import annotations

from systemvm.management.state import events, store_buckets, store_refs, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.zones import ImageStore
from systemvm.wire.storage import StoreStats

#: CloudStack has no event for it, but an alert of type 6 (SECONDARY_STORAGE).
EVENT = "ALERT.STORAGE.SECONDARY"


def record_usage(connection: Connection, store_id: int, stats: StoreStats, threshold: float) -> ImageStore:
    """Write the usage of a store; record an event when it passes `threshold`, up or down.

    No server tells how full a bucket is: it has what the operator gives it, and uses what its templates have.
    """
    before = zones.store_by_id(connection, store_id)
    if before.is_bucket:
        bucket = store_buckets.of_store(connection, store_id)
        capacity_bytes = (bucket.capacity_bytes if bucket is not None else None) or 0
        stats = StoreStats(capacity_bytes, store_refs.stored_bytes(connection, store_id))
    store = zones.set_store_usage(connection, store_id, stats.capacity_bytes, stats.used_bytes)
    was_full, is_full = before.used_ratio > threshold, store.used_ratio > threshold
    if was_full != is_full:
        more = "more" if is_full else "no longer more"
        events.record(
            connection,
            EVENT,
            f"Image store {store.name} is {more} than {threshold:.0%} full: {store.used_ratio:.0%}",
            level="WARN" if is_full else "INFO",
            resource_type="ImageStore",
            resource_uuid=store.uuid,
            zone_id=store.zone_id,
        )
    return store
