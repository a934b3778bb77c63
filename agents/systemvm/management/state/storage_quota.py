# SPDX-License-Identifier: Apache-2.0
"""How much of a zone's secondary storage an account uses (CloudStack's resource `secondary_storage`)."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state import accounts, schema
from systemvm.management.state.status import AccountType
from systemvm.management.state.templates import Template
from systemvm.wire.storage import DownloadState

_r, _s, _t = schema.template_store_refs.c, schema.image_stores.c, schema.templates.c
_RUNNING = DownloadState.DOWNLOAD_IN_PROGRESS


def quota_left(
    connection: sa.Connection, template: Template, zone_id: int, agent_name: str | None, limit_gib: int | None
) -> int | None:
    """Return what a template's account can still store beside it; None without a limit."""
    account = accounts.account_by_id(connection, template.account_id)
    if limit_gib is None or AccountType(account.type) is AccountType.ADMIN:
        return None
    return max(0, (limit_gib << 30) - used_bytes(connection, account.id, zone_id, template.id, agent_name))


def used_bytes(
    connection: sa.Connection, account_id: int, zone_id: int, not_template_id: int, not_agent: str | None
) -> int:
    """Return what templates and ISOs take, and what downloads of other SSVMs than `not_agent` will take.

    Each template counts once, on however many stores it is.
    """
    size = sa.case(
        (_r.state == DownloadState.DOWNLOADED, sa.func.coalesce(_r.physical_size_bytes, 0)),
        else_=sa.func.coalesce(_r.total_bytes, _r.received_bytes),
    )
    counted = sa.or_(
        _r.state == DownloadState.DOWNLOADED,
        sa.and_(_r.state == _RUNNING, _r.agent_name != (not_agent or "")),
    )
    sizes = (
        sa.select(sa.func.max(size).label("size"))
        .select_from(
            schema.template_store_refs.join(schema.templates, _t.id == _r.template_id).join(
                schema.image_stores, _s.id == _r.store_id
            )
        )
        .where(
            _t.account_id == account_id,
            _t.id != not_template_id,
            _s.zone_id == zone_id,
            _r.removed.is_(None),
            _r.delete_requested.is_(None),
            counted,
        )
        .group_by(_t.id)
        .subquery()
    )
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(sizes.c.size), 0))) or 0)
