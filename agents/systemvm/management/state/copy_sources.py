# SPDX-License-Identifier: Apache-2.0
"""From where a template can be copied instead of being downloaded: Ready copies of the same file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, templates, zones
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore
from systemvm.wire import checksum, oci_reference
from systemvm.wire.checksum import ChecksumAlgorithm
from systemvm.wire.storage import DownloadState, PublishedFile

_r, _s, _t, _p = (
    schema.template_store_refs.c,
    schema.image_stores.c,
    schema.templates.c,
    schema.template_permissions.c,
)
#: Two files with the same digest can be made for the others.
_STRONG = frozenset({ChecksumAlgorithm.SHA_256, ChecksumAlgorithm.SHA_384, ChecksumAlgorithm.SHA_512})
_READY = (
    _r.state == DownloadState.DOWNLOADED,
    _r.removed.is_(None),
    _r.delete_requested.is_(None),
    _s.removed.is_(None),
)


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
    """Return the copy to copy from: the one that was begun, else one of the same zone, else any.

    A bucket is a source within its zone only: its SSVMs have the keys, and serve links to mounted stores.
    """
    zone_id = sa.select(_s.zone_id).where(_s.id == ref.store_id).scalar_subquery()
    query = (
        sa.select(*templates.store_refs.labelled("ref"), *zones.store_rows.labelled("store"))
        .select_from(schema.template_store_refs.join(schema.image_stores, _s.id == _r.store_id))
        .where(
            _r.template_id == ref.template_id,
            _r.id != ref.id,
            _r.store_id != ref.store_id,
            sa.or_(_s.provider != zones.S3, _s.zone_id == zone_id),
            *_READY,
        )
        .order_by(_r.id != (ref.source_ref_id or 0), _s.zone_id != zone_id, _r.id)
    )
    return next(iter(_sources(connection, query)), None)


def copies_from_zone(connection: sa.Connection, zone_id: int) -> list[tuple[StoreRef, CopySource]]:
    """Return the copies that have begun in other zones, and their sources in this one."""
    source = schema.template_store_refs.alias("source")
    source_store = schema.image_stores.alias("source_store")
    query = (
        sa.select(_r.id, _r.source_ref_id)
        .select_from(
            schema.template_store_refs.join(schema.image_stores, _s.id == _r.store_id)
            .join(source, source.c.id == _r.source_ref_id)
            .join(source_store, source_store.c.id == source.c.store_id)
        )
        .where(
            _r.state.in_([DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS]),
            _r.removed.is_(None),
            _r.delete_requested.is_(None),
            source_store.c.zone_id == zone_id,
            _s.zone_id != zone_id,
        )
        .order_by(_r.id)
    )
    found = []
    for ref_id, source_id in connection.execute(query).all():
        begun = templates.store_refs.by_id(connection, source_id)
        file = templates.file_of(begun)
        if file is not None:
            store = zones.store_rows.by_id(connection, begun.store_id)
            found.append((templates.store_refs.by_id(connection, ref_id), CopySource(begun, store, file)))
    return found


def choose_twin(connection: sa.Connection, ref: StoreRef, template: Template) -> CopySource | None:
    """Return a Ready copy, in the zone, of another template that has the checksum which `template` expects.

    Only of one that its owner could extract anyway: who knows a digest does not have the file. And only one
    whose bytes on the store can be verified.
    """
    if not _is_strong(template.checksum) or oci_reference.is_oci(template.url or ""):
        return None
    shared = sa.select(_p.template_id).where(_p.account_id == template.account_id)
    zone_id = sa.select(_s.zone_id).where(_s.id == ref.store_id).scalar_subquery()
    joined = schema.template_store_refs.join(schema.image_stores, _s.id == _r.store_id)
    query = (
        sa.select(*templates.store_refs.labelled("ref"), *zones.store_rows.labelled("store"))
        .select_from(joined.join(schema.templates, _t.id == _r.template_id))
        .where(
            _r.checksum == template.checksum,
            _r.template_id != ref.template_id,
            *_READY,
            _s.zone_id == zone_id,
            _t.removed.is_(None),
            _t.format == template.format,
            sa.or_(_t.url.is_(None), _t.url.not_like("oci:%")),  # the image is a part of that file
            sa.or_(
                _t.account_id == template.account_id,
                sa.and_(_t.extractable, sa.or_(_t.public, _t.id.in_(shared))),
            ),
        )
        .order_by(_r.id != (ref.source_ref_id or 0), _s.id != ref.store_id, _r.id)
    )
    verifiable = (each for each in _sources(connection, query) if each.checksum is not None)
    return next(verifiable, None)


def _is_strong(text: str | None) -> bool:
    try:
        return text is not None and not checksum.is_url(text) and checksum.parse(text).algorithm in _STRONG
    except ValueError:
        return False


def _sources(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[CopySource]:
    for row in connection.execute(query).mappings():
        source = templates.store_refs.from_labelled(row, "ref")
        file = templates.file_of(source)
        if file is not None:
            yield CopySource(source, zones.store_rows.from_labelled(row, "store"), file)
