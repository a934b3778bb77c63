# SPDX-License-Identifier: Apache-2.0
"""How much accounts have of each kind of resource that CloudStack limits, counted from the rows themselves.

CloudStack keeps counters, which drift and need updateResourceCount. Here a count is always the present one:
what readers have counted holds until a column that it was counted from changes.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from systemvm.management.state import domains, schema
from systemvm.management.state.kept_results import keep
from systemvm.management.state.rows import AT_ONCE
from systemvm.management.state.snapshots import TEMPORARY
from systemvm.management.state.status import InstanceState, InstanceType, SnapshotState
from systemvm.management.state.templates import HIDDEN_TYPES
from systemvm.management.state.topics import columns
from systemvm.wire.storage import DownloadState

_v, _disk, _snapshot = schema.vm_instances.c, schema.volumes.c, schema.snapshots.c
_network = schema.guest_networks.c
_t, _r, _s = schema.templates.c, schema.template_store_refs.c, schema.image_stores.c


class ResourceType(enum.IntEnum):
    """CloudStack's kinds of resources, by its names and numbers (Resource.ResourceType): those that are here.

    Memory is counted in MiB, storage in bytes; limits of storage are in GiB.
    """

    user_vm = 0
    volume = 2
    snapshot = 3
    template = 4
    network = 6
    cpu = 8
    memory = 9
    primary_storage = 10
    secondary_storage = 11

    @property
    def is_storage(self) -> bool:
        return self in (ResourceType.primary_storage, ResourceType.secondary_storage)


#: By account, by kind.
Counts = Mapping[int, Mapping[ResourceType, int]]

_OF_MACHINES = ("type", "removed", "state", "account_id")
_OF_VOLUMES = columns(schema.volumes, "removed", "account_id")
#: The columns that each kind is counted from. No progress of a download is among them.
_TOPICS: Mapping[ResourceType, tuple[str, ...]] = {
    ResourceType.user_vm: columns(schema.vm_instances, *_OF_MACHINES),
    ResourceType.cpu: columns(schema.vm_instances, *_OF_MACHINES, "vcpus"),
    ResourceType.memory: columns(schema.vm_instances, *_OF_MACHINES, "memory_mib"),
    ResourceType.volume: _OF_VOLUMES,
    ResourceType.primary_storage: (
        *_OF_VOLUMES,
        *columns(schema.volumes, "size_bytes", "template_id"),
        *columns(schema.template_store_refs, "template_id", "virtual_size_bytes"),
    ),
    ResourceType.snapshot: columns(
        schema.snapshots, "removed", "state", "interval_type", "copy_of", "account_id"
    ),
    ResourceType.template: columns(schema.templates, "removed", "type", "account_id"),
    ResourceType.network: columns(schema.guest_networks, "removed", "account_id"),
    ResourceType.secondary_storage: (
        *columns(schema.templates, "account_id"),
        *columns(schema.image_stores, "zone_id"),
        *columns(
            schema.template_store_refs,
            *("template_id", "store_id", "state", "removed", "delete_requested", "physical_size_bytes"),
        ),
    ),
}


def of_accounts(
    connection: sa.Connection, account_ids: Iterable[int], kinds: Iterable[ResourceType] = ResourceType
) -> dict[int, dict[ResourceType, int]]:
    """Return how much each of these accounts has of each kind."""
    numbers, wanted = sorted(set(account_ids)), list(kinds)
    counts = {number: dict.fromkeys(wanted, 0) for number in numbers}
    for begin in range(0, len(numbers), AT_ONCE):
        some = numbers[begin : begin + AT_ONCE]
        for kind in wanted:
            for account_id, count in _kept(connection, kind, some).items():
                counts[account_id][kind] = count
    return counts


def of_domain(connection: sa.Connection, path: str, kind: ResourceType) -> int:
    """Return how much all accounts have of a kind in the domain with this path and in those beneath it."""
    counts = of_accounts(connection, domains.accounts_beneath(connection, path), (kind,))
    return sum(count[kind] for count in counts.values())


def bytes_of_volume(connection: sa.Connection, volume_id: int) -> int:
    """Return what a volume counts for its account's primary storage."""
    return int(connection.scalar(sa.select(_disk_bytes()).where(_disk.id == volume_id)) or 0)


def _kept(connection: sa.Connection, kind: ResourceType, account_ids: Sequence[int]) -> Mapping[int, int]:
    """Return the counts that are not 0.

    To sum the storage of 100,000 templates takes a tenth of a second.
    """
    read = functools.partial(_read, kind=kind, account_ids=account_ids)
    key = ("resource count", kind, *account_ids)
    return keep(connection, key, _TOPICS[kind], read, lambda _: 1 + len(account_ids))


def _read(connection: sa.Connection, kind: ResourceType, account_ids: Sequence[int]) -> Mapping[int, int]:
    return {
        account_id: int(count or 0) for account_id, count in connection.execute(_count(kind, account_ids))
    }


def _count(kind: ResourceType, account_ids: Sequence[int]) -> sa.Select[Any]:
    """Return the query of the pairs of account and count."""
    match kind:
        case ResourceType.user_vm:
            return _of_machines(sa.func.count(), account_ids)
        case ResourceType.cpu:
            return _of_machines(sa.func.sum(_v.vcpus), account_ids)
        case ResourceType.memory:
            return _of_machines(sa.func.sum(_v.memory_mib), account_ids)
        case ResourceType.volume:
            return _of_volumes(sa.func.count(), account_ids)
        case ResourceType.primary_storage:
            return _of_volumes(sa.func.sum(_disk_bytes()), account_ids)
        case ResourceType.snapshot:
            return _of_snapshots(account_ids)
        case ResourceType.template:
            where = (_t.removed.is_(None), _t.type.not_in(HIDDEN_TYPES), _t.account_id.in_(account_ids))
            return sa.select(_t.account_id, sa.func.count()).where(*where).group_by(_t.account_id)
        case ResourceType.network:
            return _of_networks(account_ids)
        case ResourceType.secondary_storage:
            return _of_stores(account_ids)


def _of_machines(what: sa.ColumnElement[Any], account_ids: Sequence[int]) -> sa.Select[Any]:
    """A destroyed VM does not count: it is checked again when it is recovered."""
    where = (_v.type == InstanceType.USER, _v.removed.is_(None), _v.state.not_in(InstanceState.gone()))
    query = sa.select(_v.account_id, what).where(*where, _v.account_id.in_(account_ids))
    return query.group_by(_v.account_id)


def _of_networks(account_ids: Sequence[int]) -> sa.Select[Any]:
    """Only isolated and L2 networks have an owner."""
    where = (_network.removed.is_(None), _network.account_id.in_(account_ids))
    return sa.select(_network.account_id, sa.func.count()).where(*where).group_by(_network.account_id)


def _of_volumes(what: sa.ColumnElement[Any], account_ids: Sequence[int]) -> sa.Select[Any]:
    query = sa.select(_disk.account_id, what).where(
        _disk.removed.is_(None), _disk.account_id.in_(account_ids)
    )
    return query.group_by(_disk.account_id)


def _disk_bytes() -> sa.ColumnElement[int]:
    """Return the size of a volume; one without a size of its own has that of its template."""
    of_template = (
        sa.select(sa.func.max(_r.virtual_size_bytes))
        .where(_r.template_id == _disk.template_id)
        .correlate(schema.volumes)
        .scalar_subquery()
    )
    return sa.func.coalesce(_disk.size_bytes, of_template, 0)


def _of_snapshots(account_ids: Sequence[int]) -> sa.Select[Any]:
    gone = [state for state in SnapshotState if state.is_hidden or state is SnapshotState.ERROR]
    where = (
        _snapshot.removed.is_(None),
        _snapshot.state.not_in(gone),
        _snapshot.interval_type.not_in(TEMPORARY),
        _snapshot.copy_of.is_(None),  # one snapshot, in several zones
    )
    query = sa.select(_snapshot.account_id, sa.func.count())
    query = query.where(*where, _snapshot.account_id.in_(account_ids))
    return query.group_by(_snapshot.account_id)


def _of_stores(account_ids: Sequence[int]) -> sa.Select[Any]:
    """Count the zone where an account stores most, because the limit is of each zone."""
    sizes = (
        sa.select(_t.account_id, _s.zone_id, sa.func.max(_r.physical_size_bytes).label("size"))
        .select_from(
            schema.template_store_refs.join(schema.templates, _t.id == _r.template_id).join(
                schema.image_stores, _s.id == _r.store_id
            )
        )
        .where(_r.state == DownloadState.DOWNLOADED, _r.removed.is_(None), _r.delete_requested.is_(None))
        .where(_t.account_id.in_(account_ids))
        .group_by(_t.account_id, _s.zone_id, _t.id)
        .subquery()
    )
    zones = (
        sa.select(sizes.c.account_id, sa.func.sum(sizes.c.size).label("size"))
        .group_by(sizes.c.account_id, sizes.c.zone_id)
        .subquery()
    )
    return sa.select(zones.c.account_id, sa.func.max(zones.c.size)).group_by(zones.c.account_id)
