# SPDX-License-Identifier: Apache-2.0
"""Conditional changes of templates' copies on image stores.

Each is one conditional UPDATE: two SSVMs, or a status and a deletion that meet, cannot both change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from systemvm.management.state import schema
from systemvm.management.state.templates import StoreRef, store_refs
from systemvm.wire.storage import DownloadState

_c = schema.template_store_refs.c
_UNFINISHED = _c.state.in_([DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS])
_WANTED = (_c.delete_requested.is_(None), _c.removed.is_(None))

by_id = store_refs.by_id


def assign(connection: sa.Connection, ref_id: int, agent_name: str, before: str | None) -> bool:
    """Give an unfinished download to an SSVM if `before` has it (None: no SSVM); return whether it did."""
    changed = store_refs.update_where(
        connection,
        _c.id == ref_id,
        _c.agent_name.is_not_distinct_from(before),
        _UNFINISHED,
        *_WANTED,
        agent_name=agent_name,
    )
    return bool(changed)


def unassign(connection: sa.Connection, ref_id: int, agent_name: str) -> None:
    """Take an unfinished download from this SSVM: any can have it then."""
    store_refs.update_where(
        connection,
        _c.id == ref_id,
        _c.agent_name == agent_name,
        _UNFINISHED,
        agent_name=None,
        state=DownloadState.NOT_DOWNLOADED,
        reserved_bytes=None,
    )


def with_other_hint(connection: sa.Connection, ref_ids: Sequence[int], hint: str) -> list[StoreRef]:
    """Return those of the unfinished downloads whose row has another hint than this one."""
    return store_refs.all(connection, *_has_other_hint(ref_ids, hint))


def set_wait_reason(connection: sa.Connection, ref_ids: Sequence[int], code: str, hint: str) -> None:
    """Write why unfinished downloads wait into the rows that `with_other_hint` returns."""
    store_refs.update_where(connection, *_has_other_hint(ref_ids, hint), error_code=code, error_hint=hint)


def _has_other_hint(ref_ids: Sequence[int], hint: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _c.id.in_(ref_ids), _UNFINISHED, _c.error_hint.is_distinct_from(hint)


def fail(connection: sa.Connection, ref_id: int, code: str, message: str, hint: str) -> bool:
    """End an unfinished download with an error; return whether it did."""
    changed = store_refs.update_where(
        connection,
        _c.id == ref_id,
        _UNFINISHED,
        state=DownloadState.DOWNLOAD_ERROR,
        error_code=code,
        error_text=message,
        error_hint=hint,
    )
    return bool(changed)


def expected_bytes(connection: sa.Connection) -> dict[int, int]:
    """Return how many bytes unfinished downloads and copies will still write, by the number of the store."""
    left = sa.func.sum(_c.total_bytes - _c.received_bytes)
    query = sa.select(_c.store_id, left).where(_UNFINISHED, *_WANTED).group_by(_c.store_id)
    return {store_id: max(0, int(count or 0)) for store_id, count in connection.execute(query)}


def stored_bytes(connection: sa.Connection, store_id: int) -> int:
    """Return how many bytes the templates on a store have, for one that cannot be measured."""
    is_ready = _c.state == DownloadState.DOWNLOADED
    query = sa.select(sa.func.sum(_c.physical_size_bytes)).where(
        _c.store_id == store_id, is_ready, _c.removed.is_(None)
    )
    return int(connection.execute(query).scalar() or 0)


def failed_of_template(connection: sa.Connection, template_id: int) -> list[StoreRef]:
    """Return a template's failed downloads that are still wanted."""
    failed = _c.state == DownloadState.DOWNLOAD_ERROR
    return store_refs.all(connection, _c.template_id == template_id, failed, *_WANTED)
