# SPDX-License-Identifier: Apache-2.0
"""Uploads of templates: the parameters that clients got, and the copies that come from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema, templates
from systemvm.management.state.rows import NotFoundError, Rows
from systemvm.management.state.templates import StoreRef
from systemvm.wire.storage import DownloadState
from systemvm.wire.vm_name import VmName


@frozen
class UploadRow:
    """What a client sends a template to; `upload_id` is the part of the URL that cannot be guessed."""

    id: int
    upload_id: str = field(repr=False)
    post_url: str = field(repr=False)
    metadata: str
    expires: datetime


rows = Rows(schema.template_uploads, UploadRow, "upload")
_u, _r, _t = schema.template_uploads.c, schema.template_store_refs.c, schema.templates.c
_WANTED = (_r.upload_id.is_not(None), _r.removed.is_(None), _r.delete_requested.is_(None))
_UNFINISHED = (*_WANTED, _r.state.in_([DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS]))


def create(connection: sa.Connection, /, **values: Any) -> UploadRow:
    return rows.insert(connection, **values)


def of_ref(connection: sa.Connection, ref: StoreRef) -> UploadRow:
    """Return the upload that a copy comes from.

    Raises: NotFoundError when it comes from no upload, or that has ended.
    """
    found = None if ref.upload_id is None else rows.one(connection, _u.upload_id == ref.upload_id)
    if found is None:
        raise NotFoundError(f"copy {ref.id} has no upload")
    return found


def of_template(connection: sa.Connection, template_id: int) -> StoreRef | None:
    """Return the copy of a template that is or was uploaded and is still wanted; None when there is none."""
    newest = [_r.id.desc()]
    where = (_r.template_id == template_id, *_WANTED)
    found = templates.store_refs.all(connection, *where, order_by=newest, limit=1)
    return found[0] if found else None


def extend(connection: sa.Connection, upload_id: str, expires: datetime) -> None:
    """Give an upload more time; its URL stays."""
    rows.update_where(connection, _u.upload_id == upload_id, expires=expires)


def delete(connection: sa.Connection, upload_id: str) -> None:
    """Forget the parameters of an upload that has ended."""
    connection.execute(schema.template_uploads.delete().where(_u.upload_id == upload_id))


def count_of_ssvm(connection: sa.Connection, agent_name: str) -> int:
    """Return how many unfinished uploads an SSVM has."""
    same = sa.func.lower(_r.agent_name) == VmName(agent_name).key
    query = sa.select(sa.func.count()).select_from(schema.template_store_refs).where(same, *_UNFINISHED)
    return int(connection.scalar(query) or 0)


def count_of_account(connection: sa.Connection, account_id: int) -> int:
    """Return how many unfinished uploads an account has."""
    joined = schema.template_store_refs.join(schema.templates, _t.id == _r.template_id)
    query = sa.select(sa.func.count()).select_from(joined).where(_t.account_id == account_id, *_UNFINISHED)
    return int(connection.scalar(query) or 0)
