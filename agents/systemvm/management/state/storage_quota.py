# SPDX-License-Identifier: Apache-2.0
"""How much of a zone's secondary storage an account uses (CloudStack's resource `secondary_storage`)."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state import accounts, schema
from systemvm.management.state.accounts import Account
from systemvm.management.state.templates import StoreRef, Template
from systemvm.wire.storage import DownloadState

_r, _s, _t = schema.template_store_refs.c, schema.image_stores.c, schema.templates.c
_IS_READY = _r.state == DownloadState.DOWNLOADED
_IS_UNFINISHED = _r.state.in_([DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS])
_WANTED = (_r.removed.is_(None), _r.delete_requested.is_(None))
#: An account's own limit that is none.
UNLIMITED_GIB = -1


def limit_gib(account: Account, zone_gib: int | None) -> int | None:
    """Return how much an account can store in a zone whose file says `zone_gib`; None is no limit.

    The account's own limit comes before the zone's; an administrator has none.
    """
    if account.is_admin or account.max_secondary_storage_gib == UNLIMITED_GIB:
        return None
    return zone_gib if account.max_secondary_storage_gib is None else account.max_secondary_storage_gib


def limit_bytes(connection: sa.Connection, account_id: int, zone_gib: int | None) -> int | None:
    """Return the same in bytes."""
    most_gib = limit_gib(accounts.account_by_id(connection, account_id), zone_gib)
    return None if most_gib is None else most_gib << 30


def quota_left(
    connection: sa.Connection, template: Template, zone_id: int, agent_name: str | None, zone_gib: int | None
) -> int | None:
    """Return what a template's account can still store beside it; None without a limit.

    Downloads of `agent_name` do not count: that SSVM knows their sizes better.
    """
    limit = limit_bytes(connection, template.account_id, zone_gib)
    if limit is None:
        return None
    used = connection.scalar(sa.select(_used(template, zone_id, agent_name)))
    return max(0, limit - int(used or 0))


def reserve(
    connection: sa.Connection, ref: StoreRef, template: Template, zone_id: int, size_bytes: int, limit: int
) -> bool:
    """Reserve the size of an unfinished copy if its account has as much left; return whether it has.

    It is one statement, so that two SSVMs that ask at once cannot both get the last bytes. A template that
    is in the zone already counts once.
    """
    is_there = (
        sa.select(_r.id)
        .join_from(schema.template_store_refs, schema.image_stores, _s.id == _r.store_id)
        .where(_r.template_id == template.id, _s.zone_id == zone_id, _IS_READY, *_WANTED)
        .correlate(None)
        .exists()
    )
    fits = _used(template, zone_id, None) + size_bytes <= limit
    change = (
        schema.template_store_refs.update()
        .where(_r.id == ref.id, _r.job_id == ref.job_id, _IS_UNFINISHED, sa.or_(is_there, fits))
        .values(reserved_bytes=size_bytes)
    )
    return bool(connection.execute(change).rowcount)


def _used(template: Template, zone_id: int, not_agent: str | None) -> sa.ScalarSelect[int]:
    """Return the query of what an account's other templates and ISOs take, and what is reserved for them.

    Each template counts once, on however many stores it is.
    """
    announced = sa.func.coalesce(_r.total_bytes, _r.received_bytes)
    reserved = sa.func.coalesce(_r.reserved_bytes, 0)
    size = sa.case(
        (_IS_READY, sa.func.coalesce(_r.physical_size_bytes, 0)),
        (reserved > announced, reserved),
        else_=announced,
    )
    # one that no SSVM has yet has reserved nothing
    counted = sa.or_(_IS_READY, sa.and_(_IS_UNFINISHED, _r.agent_name != (not_agent or "")))
    sizes = (
        sa.select(sa.func.max(size).label("size"))
        .select_from(
            schema.template_store_refs.join(schema.templates, _t.id == _r.template_id).join(
                schema.image_stores, _s.id == _r.store_id
            )
        )
        .where(
            _t.account_id == template.account_id,
            _t.id != template.id,
            _s.zone_id == zone_id,
            *_WANTED,
            counted,
        )
        .group_by(_t.id)
        .correlate(None)
        .subquery()
    )
    return sa.select(sa.func.coalesce(sa.func.sum(sizes.c.size), 0)).scalar_subquery()
