# SPDX-License-Identifier: Apache-2.0
"""Templates and ISOs, their copies on image stores, and their copies on primary storage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import new_uuid, now
from systemvm.management.state.kept_results import keep
from systemvm.management.state.rows import Rows, one_of
from systemvm.management.state.same_rows import SameRows
from systemvm.management.state.status import SpoolState, VolumeState
from systemvm.management.state.topics import any_of
from systemvm.wire.storage import DownloadState, ImageFormat, PublishedFile

#: Types of images that users see as no template: one that was made for links to a snapshot or volume, the
#: file that a volume was uploaded as, and a snapshot on its way to other zones.
EXPORT, VOLUME, COPY = "EXPORT", "VOLUME", "COPY"
HIDDEN_TYPES = (EXPORT, VOLUME, COPY)


@frozen
class Template:
    """A template, or an ISO (depending on `format`), as its user registered it."""

    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int | None
    arch: str | None
    unique_name: str
    name: str
    display_text: str
    format: ImageFormat
    url: str | None = field(repr=False)
    checksum: str | None
    type: str
    hypervisor: str
    os_type: str | None
    bootable: bool
    featured: bool
    public: bool
    extractable: bool
    hvm: bool
    password_enabled: bool
    details: dict[str, Any]
    created: datetime
    removed: datetime | None

    @property
    def is_iso(self) -> bool:
        return self.format is ImageFormat.ISO

    @property
    def is_hidden(self) -> bool:
        """Whether users see it as no template."""
        return self.type in HIDDEN_TYPES


@frozen
class StoreRef:
    """A template on an image store: the progress and the result of its download."""

    id: int
    uuid: str
    template_id: int
    store_id: int
    job_id: str
    request_id: str | None
    agent_name: str | None
    state: DownloadState
    percent: int
    received_bytes: int
    total_bytes: int | None
    error_code: str | None
    error_text: str | None
    error_hint: str | None
    install_path: str | None
    physical_size_bytes: int | None
    virtual_size_bytes: int | None
    checksum: str | None
    image_checksum: str | None
    source_ref_id: int | None
    copy_failures: int
    upload_id: str | None
    reserved_bytes: int | None
    created: datetime
    updated: datetime
    delete_requested: datetime | None
    removed: datetime | None

    @property
    def is_ready(self) -> bool:
        return self.state is DownloadState.DOWNLOADED and self.removed is None

    @property
    def has_begun(self) -> bool:
        """Whether anything is known of its bytes; an SSVM reports an upload before its client comes."""
        return self.total_bytes is not None or self.received_bytes > 0


@frozen
class SpoolRef:
    """A template's copy on a host's primary storage, from which VMs' disks are cloned."""

    id: int
    uuid: str
    template_id: int
    host_id: int
    pool_id: int | None  # None: the host's own directory
    state: SpoolState
    path: str | None
    size_bytes: int | None
    error_text: str | None
    updated: datetime


rows = Rows(schema.templates, Template, "template")
store_refs = Rows(schema.template_store_refs, StoreRef, "download")
spool_refs = Rows(schema.template_spool_refs, SpoolRef, "copy of a template")
same_rows = SameRows(rows)
_same_refs = SameRows(store_refs)
_FAILED = DownloadState.DOWNLOAD_ERROR
_t = schema.templates.c
_s = schema.template_store_refs.c
_IS_WANTED = (_s.removed.is_(None), _s.delete_requested.is_(None))
_WANTED_REFS_OF = _same_refs.prepared(
    _s.template_id.in_(one_of("template_ids")), *_IS_WANTED, order_by=[_s.id]
)
_ZONES_OF_STORES = sa.select(schema.image_stores.c.id, schema.image_stores.c.zone_id)
_p = schema.template_spool_refs.c

#: With more numbers than this all rows are read: SQLite permits 32,766 parameters, and it is as fast.
MAX_NAMED_IDS = 1000

by_id = rows.by_id


def by_uuid(connection: sa.Connection, uuid: str) -> Template:
    """Return a template or ISO that users see."""
    template = rows.by_uuid(connection, uuid)
    return rows.by_uuid(connection, "") if template.is_hidden else template  # raises


def register(
    connection: sa.Connection,
    /,
    *,
    name: str,
    account_id: int,
    store_id: int,
    request_id: str | None = None,
    **columns: Any,
) -> tuple[Template, StoreRef]:
    """Create a template that is not downloaded yet, and its copy on a store."""
    template = rows.insert(connection, name=name, account_id=account_id, unique_name=new_uuid(), **columns)
    # CloudStack's form, unique by the number in it: <account>-<id>-<hash>.
    unique_name = f"{account_id}-{template.id}-{template.uuid}"
    template = rows.update(connection, template.id, unique_name=unique_name)
    return template, add_store_ref(connection, template.id, store_id, request_id)


def list_all(connection: sa.Connection) -> list[Template]:
    """Return the templates and ISOs that are not removed."""
    return rows.all(connection, _t.removed.is_(None))


def by_ids(connection: sa.Connection, numbers: Collection[int]) -> dict[int, Template]:
    """Return templates and ISOs by their numbers, removed ones included."""
    return rows.by_ids(connection, numbers)


def ids_of_account(connection: sa.Connection, account_id: int) -> list[int]:
    """Return the numbers of an account's templates and ISOs that are not removed."""
    return list(connection.scalars(sa.select(_t.id).where(_t.account_id == account_id, _t.removed.is_(None))))


def update(connection: sa.Connection, /, template_id: int, **changes: Any) -> Template:
    return rows.update(connection, template_id, **changes)


def add_store_ref(
    connection: sa.Connection, template_id: int, store_id: int, request_id: str | None
) -> StoreRef:
    """Create a further copy of a template, for another zone."""
    return store_refs.insert(
        connection, template_id=template_id, store_id=store_id, job_id=new_uuid(), request_id=request_id
    )


def file_of(ref: StoreRef) -> PublishedFile | None:
    """Return the place and the name of a copy's file on its store; None when it has none yet."""
    parts = (ref.install_path or "").split("/")
    if len(parts) != 5 or parts[:2] != ["template", "tmpl"] or not (parts[2] + parts[3]).isdecimal():
        return None
    return PublishedFile(int(parts[2]), int(parts[3]), parts[4])


def place_of(ref: StoreRef, template: Template) -> tuple[int, int]:
    """Return the numbers of a copy's directory; an adopted template keeps those of its cloud."""
    file = file_of(ref)
    return (template.account_id, template.id) if file is None else (file.account_id, file.template_id)


def store_ref_of(connection: sa.Connection, template_id: int, zone_id: int | None = None) -> StoreRef | None:
    """Return the best copy of a template that is not removed, on a store of that zone or of any.

    A Ready one that stays is better than another; one that a host can read is better; then the newest.
    """
    where = [_s.template_id == template_id, _s.removed.is_(None)]
    if zone_id is not None:
        of_zone = sa.select(schema.image_stores.c.id).where(schema.image_stores.c.zone_id == zone_id)
        where.append(_s.store_id.in_(of_zone))
    i = schema.image_stores.c
    is_unreadable = sa.select(i.host_path.is_(None)).where(i.id == _s.store_id).scalar_subquery()
    best = [
        _s.delete_requested.is_not(None),
        _s.state != DownloadState.DOWNLOADED,
        is_unreadable,
        _s.id.desc(),
    ]
    found = store_refs.all(connection, *where, order_by=best, limit=1)
    return found[0] if found else None


def has_files_to_delete(connection: sa.Connection, template_id: int) -> bool:
    """Return whether files of the template are still to be deleted on an image store."""
    to_delete = (_s.template_id == template_id, _s.removed.is_(None), _s.delete_requested.is_not(None))
    return store_refs.one(connection, *to_delete) is not None


def is_in_zone(connection: sa.Connection, template: Template, zone_id: int) -> bool:
    """Return whether a zone has a template: one of all zones, of that zone, or with a copy there."""
    if template.zone_id in (None, zone_id):
        return True
    return zone_id in zones_of(connection, template.id)


def zones_of(connection: sa.Connection, template_id: int) -> set[int]:
    """Return the numbers of the zones with a wanted copy of a template."""
    i = schema.image_stores.c
    query = (
        sa.select(i.zone_id)
        .join(schema.template_store_refs, _s.store_id == i.id)
        .where(_s.template_id == template_id, _s.removed.is_(None), _s.delete_requested.is_(None))
    )
    return set(connection.scalars(query))


def request_deletion_in_zone(connection: sa.Connection, template: Template, zone_id: int) -> bool:
    """Have the copies of one zone deleted while others stay; return False if there are no others."""
    others = zones_of(connection, template.id) - {zone_id}
    if not others or template.zone_id is None:
        return False
    of_zone = sa.select(schema.image_stores.c.id).where(schema.image_stores.c.zone_id == zone_id)
    store_refs.update_where(
        connection,
        _s.template_id == template.id,
        _s.store_id.in_(of_zone),
        _s.removed.is_(None),
        delete_requested=now(),
    )
    if template.zone_id == zone_id:
        rows.update(connection, template.id, zone_id=min(others))
    return True


def store_refs_by_zone(
    connection: sa.Connection, template_ids: Sequence[int]
) -> dict[tuple[int, int], list[StoreRef]]:
    """Return the wanted copies of several templates by template and zone, the best first."""
    zone_of = keep(connection, "zones of stores", any_of(schema.image_stores), _zones_of_stores)
    wanted = set(template_ids)
    if len(wanted) <= MAX_NAMED_IDS:
        found = _WANTED_REFS_OF.all(connection, template_ids=list(wanted))
    else:
        found = store_refs.all(connection, *_IS_WANTED)
    copies: dict[tuple[int, int], list[StoreRef]] = {}
    for ref in sorted(found, key=lambda ref: (not ref.is_ready, ref.state is _FAILED, -ref.id)):
        if ref.template_id in wanted:
            copies.setdefault((ref.template_id, zone_of[ref.store_id]), []).append(ref)
    return copies


def _zones_of_stores(connection: sa.Connection) -> dict[int, int]:
    return {row.id: row.zone_id for row in connection.execute(_ZONES_OF_STORES)}


def store_ref_of_job(connection: sa.Connection, job_id: str) -> StoreRef | None:
    return store_refs.one(connection, _s.job_id == job_id)


def update_store_ref(connection: sa.Connection, /, ref_id: int, **changes: Any) -> StoreRef:
    return store_refs.update(connection, ref_id, **changes)


def request_deletion(connection: sa.Connection, template_id: int) -> bool:
    """Remove a template for its users and request its files' deletion; return False if it was removed."""
    at = now()
    if not rows.update_where(connection, _t.id == template_id, _t.removed.is_(None), removed=at):
        return False
    store_refs.update_where(
        connection, _s.template_id == template_id, _s.removed.is_(None), delete_requested=at
    )
    return True


def remove(connection: sa.Connection, template_id: int) -> None:
    """Mark a template and its copies on stores as removed; the caller deletes the files."""
    rows.update_where(connection, _t.id == template_id, _t.removed.is_(None), removed=now())
    store_refs.update_where(connection, _s.template_id == template_id, _s.removed.is_(None), removed=now())


def spool_ref(
    connection: sa.Connection, template_id: int, host_id: int, pool_id: int | None = None
) -> SpoolRef:
    """Return a template's only copy in a pool, or in a host's own directory; create the row if there is none.

    The copy in a pool is the same for each host that can use the pool.
    """
    found = spool_refs.one(connection, *_of_copy(template_id, host_id, pool_id))
    return found or spool_refs.insert(connection, template_id=template_id, host_id=host_id, pool_id=pool_id)


def path_of_copy(
    connection: sa.Connection, template_id: int, host_id: int, pool_id: int | None
) -> str | None:
    """Return where a template's copy in a pool, or in a host's own directory, was made.

    It stays while the copy is made again, and when that fails.
    """
    found = spool_refs.one(connection, *_of_copy(template_id, host_id, pool_id))
    return None if found is None else found.path


def _of_copy(template_id: int, host_id: int, pool_id: int | None) -> tuple[sa.ColumnElement[bool], ...]:
    place = _p.host_id == host_id if pool_id is None else _p.pool_id == pool_id
    return (
        _p.template_id == template_id,
        _p.pool_id.is_not_distinct_from(pool_id),
        place,
        _p.removed.is_(None),
    )


def machines_of(connection: sa.Connection, template: Template, limit: int) -> list[str]:
    """Return the names of VMs that are made from a template, or have an ISO, and are not expunged."""
    v = schema.vm_instances.c
    uses = (v.iso_id if template.is_iso else v.template_id) == template.id
    query = sa.select(v.name).where(uses, v.removed.is_(None)).order_by(v.id).limit(limit)
    return list(connection.scalars(query))


def waiting_pools(connection: sa.Connection, template_id: int) -> list[int | None]:
    """Return the pools without a copy of a template from which VMs' disks must still be cloned.

    None is a host's own directory.
    """
    d = schema.volumes.c
    copied = sa.exists().where(
        _p.template_id == template_id,
        _p.pool_id.is_not_distinct_from(d.pool_id),
        sa.or_(_p.pool_id.is_not(None), _p.host_id == d.host_id),
        _p.state == SpoolState.READY,
        _p.removed.is_(None),
    )
    waiting = (
        sa.select(d.pool_id)
        .distinct()
        .where(d.template_id == template_id, d.removed.is_(None), d.state != VolumeState.READY, ~copied)
    )
    return list(connection.scalars(waiting))


def unused_spool_refs(connection: sa.Connection, host_id: int) -> list[tuple[SpoolRef, Template]]:
    """Return a host's copies of removed templates that no VM uses or will use.

    A copy in this list stays in it: a deployment checks that its template is not removed in the transaction
    that creates its VM, so a removed template gains no users.
    """
    v, d = schema.vm_instances.c, schema.volumes.c
    attached = sa.exists().where(v.iso_id == _p.template_id, v.removed.is_(None))
    made = sa.exists().where(v.template_id == _p.template_id, v.removed.is_(None))
    is_iso = sa.exists().where(_t.id == _p.template_id, _t.format == ImageFormat.ISO)  # and its VMs need none
    cloned = sa.exists().where(d.template_id == _p.template_id, d.removed.is_(None))
    deleted = sa.exists().where(_t.id == _p.template_id, _t.removed.is_not(None))
    unused = (~attached, sa.or_(~made, is_iso), ~cloned)
    found = spool_refs.all(connection, _p.host_id == host_id, _p.removed.is_(None), deleted, *unused)
    return [(ref, rows.by_id(connection, ref.template_id)) for ref in found]


def remove_spool_ref(connection: sa.Connection, ref_id: int) -> None:
    """Mark a copy as removed from primary storage."""
    spool_refs.update_where(connection, _p.id == ref_id, _p.removed.is_(None), removed=now())


def update_spool_ref(connection: sa.Connection, /, ref_id: int, **changes: Any) -> SpoolRef:
    return spool_refs.update(connection, ref_id, **changes)
