# SPDX-License-Identifier: Apache-2.0
"""From where a template can be copied instead of being downloaded again: its Ready copies on other stores."""

from __future__ import annotations

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, templates, zones
from systemvm.management.state.templates import StoreRef
from systemvm.management.state.zones import ImageStore
from systemvm.wire.storage import DownloadState, PublishedFile

_r, _s = schema.template_store_refs.c, schema.image_stores.c


@frozen
class CopySource:
    """A Ready copy, its store and its file there."""

    ref: StoreRef
    store: ImageStore
    file: PublishedFile

    @property
    def checksum(self) -> str | None:
        """The digest of the file on the store, if it is known.

        The digest of the URL's file is that of the store's as well if both have the same size: a compressed
        file has another one.
        """
        if self.ref.image_checksum is not None:
            return self.ref.image_checksum
        was_stored_as_sent = self.ref.physical_size_bytes == self.ref.total_bytes and self.ref.total_bytes
        return self.ref.checksum if was_stored_as_sent else None


def choose_source(connection: sa.Connection, ref: StoreRef) -> CopySource | None:
    """Return the copy to copy from: the one that was begun, else one of the same zone, else any."""
    zone_id = sa.select(_s.zone_id).where(_s.id == ref.store_id).scalar_subquery()
    query = (
        sa.select(*templates.store_refs.labelled("ref"), *zones.store_rows.labelled("store"))
        .select_from(schema.template_store_refs.join(schema.image_stores, _s.id == _r.store_id))
        .where(
            _r.template_id == ref.template_id,
            _r.id != ref.id,
            _r.store_id != ref.store_id,
            _r.state == DownloadState.DOWNLOADED,
            _r.removed.is_(None),
            _r.delete_requested.is_(None),
            _s.removed.is_(None),
        )
        .order_by(_r.id != (ref.source_ref_id or 0), _s.zone_id != zone_id, _r.id)
    )
    for row in connection.execute(query).mappings():
        source = templates.store_refs.from_labelled(row, "ref")
        file = templates.file_of(source)
        if file is not None:
            return CopySource(source, zones.store_rows.from_labelled(row, "store"), file)
    return None
