# SPDX-License-Identifier: Apache-2.0
"""Makes room on staging stores: copies that were not used for the longest time go first."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from systemvm.management.state import extract_links, store_contents, templates
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.zones import ImageStore

#: A host can still read a copy that it was given a while ago.
KEPT_FOR = timedelta(hours=1)


def note_use(connection: Connection, ref_id: int) -> None:
    """Record that a copy is wanted now."""
    templates.update_store_ref(connection, ref_id, updated=now())


def evict(connection: Connection, stores: Collection[ImageStore], zone_id: int, size_bytes: int) -> bool:
    """Have copies deleted that bring `size_bytes`, or all that can be; return whether there are any.

    A copy stays that was used within the hour, that has links, or that is the only one of its template.
    """
    store_ids = [store.id for store in stores]
    if store_contents.has_deletions(connection, store_ids):
        return True  # of an earlier call: the stores are measured again when they are done
    linked = {link.template_id for link in extract_links.live_of_zone(connection, zone_id)}
    before = now() - KEPT_FOR
    freed_bytes, evicted = 0, 0
    for ref, template in store_contents.staged(connection, store_ids):
        if freed_bytes >= size_bytes and evicted:
            break
        if ref.updated < before and template.id not in linked:
            templates.update_store_ref(connection, ref.id, delete_requested=now())
            freed_bytes += ref.physical_size_bytes or 0
            evicted += 1
    return evicted > 0
