# SPDX-License-Identifier: Apache-2.0
"""The choice of a pool for a new volume, by scope, state, tags and capacity."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from systemvm.management.configurations import storage
from systemvm.management.configurations.storage import StorageLimits
from systemvm.management.primary.pool_usage import DiskUsage, Usages
from systemvm.management.primary.pools import reaches
from systemvm.management.state import storage_pools, volumes, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.status import Provisioning
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.volumes.errors import NoPoolError

_GIB = 1 << 30


@frozen
class PoolCandidate:
    """A pool with what decides whether it takes a volume."""

    pool: StoragePool
    usage: DiskUsage | None
    allocated_bytes: int
    limits: StorageLimits

    @property
    def allocatable_bytes(self) -> float:
        """The sum of virtual sizes that it takes."""
        total = self.usage.total_bytes if self.usage else 0
        return total * self.limits.overprovisioning * self.limits.allocated_threshold

    @property
    def usable_bytes(self) -> float:
        """How much of it can be in use."""
        return (self.usage.total_bytes if self.usage else 0) * self.limits.used_threshold

    def refusal(
        self,
        size_bytes: int,
        tags: frozenset[str] = frozenset(),
        provisioning: Provisioning = Provisioning.THIN,
    ) -> str | None:
        """Return why it takes no volume of this size and with these tags; None: it takes one."""
        missing = tags - self.pool.tag_set
        if missing:
            return f"it does not have the tags of the offering: {', '.join(sorted(missing))}"
        if self.pool.state != storage_pools.UP:
            return f"it is {self.pool.state}"
        return self.lack_of_space(size_bytes, provisioning)

    def lack_of_space(self, size_bytes: int, provisioning: Provisioning) -> str | None:
        """Return why its volumes cannot have so much more; None: they can."""
        if self.usage is None:
            return "its directory cannot be used on this host"
        used = self.usage.used_bytes / self.usage.total_bytes if self.usage.total_bytes else 1.0
        if used >= self.limits.used_threshold:
            return (
                f"{used:.0%} of it are in use, the maximum is {self.limits.used_threshold:.0%}"
                f" ({storage.USED_THRESHOLD.name})"
            )
        # overprovisioning is of space that is not used yet, and a fat disk uses all of its own at once
        used_bytes, usable_bytes = self.usage.used_bytes + size_bytes, self.usable_bytes
        if provisioning is Provisioning.FAT and used_bytes > usable_bytes:
            return (
                f"with a fat disk {used_bytes / _GIB:.4g} GiB of it would be in use, the maximum is"
                f" {usable_bytes / _GIB:.4g} GiB ({storage.USED_THRESHOLD.name})"
            )
        if self.allocated_bytes + size_bytes > self.allocatable_bytes:
            return (
                f"its volumes would have {(self.allocated_bytes + size_bytes) / _GIB:.4g} GiB, the maximum is"
                f" {self.allocatable_bytes / _GIB:.4g} GiB ({storage.ALLOCATED_THRESHOLD.name},"
                f" {storage.OVERPROVISIONING.name})"
            )
        return None


def candidates(connection: Connection, host_id: int, usages: Usages) -> list[PoolCandidate]:
    """Return the pools that the machines of a host can use, except its own directory."""
    host = zones.host_by_id(connection, host_id)
    created = storage_pools.list_created(connection)
    return _with_figures(connection, [pool for pool in created if reaches(pool, host)], usages)


def _with_figures(
    connection: Connection, pools: Iterable[StoragePool], usages: Usages
) -> list[PoolCandidate]:
    allocated = volumes.allocated_bytes_by_pool(connection)
    return [
        PoolCandidate(
            pool, usages.get(pool.id), allocated.get(pool.id, 0), storage.limits(connection, pool.zone_id)
        )
        for pool in pools
    ]


def choose(
    connection: Connection,
    host_id: int,
    usages: Usages,
    size_bytes: int,
    tags: frozenset[str] = frozenset(),
    provisioning: Provisioning = Provisioning.THIN,
) -> StoragePool:
    """Return the pool of several hosts with the most room for virtual sizes.

    Raises: NoPoolError with the reason of each pool when none takes the volume.
    """
    reasons: list[str] = []
    taking: list[PoolCandidate] = []
    for candidate in candidates(connection, host_id, usages):
        if candidate.pool.is_local:
            continue
        why = candidate.refusal(size_bytes, tags, provisioning)
        if why is None:
            taking.append(candidate)
        else:
            reasons.append(f"{candidate.pool.name}: {why}")
    if not taking:
        raise NoPoolError(
            f"no shared storage pool takes the volume: {'; '.join(reasons) or 'there is none'}",
            "create another pool with createStoragePool, or make room in one",
        )
    return max(taking, key=lambda each: each.allocatable_bytes - each.allocated_bytes).pool


def check_takes(
    connection: Connection,
    pool: StoragePool,
    host_id: int,
    usages: Usages,
    size_bytes: int,
    tags: frozenset[str] = frozenset(),
    provisioning: Provisioning = Provisioning.THIN,
) -> None:
    """Check that a pool takes a volume of a host's machines.

    Raises: NoPoolError with the reason when it does not.
    """
    if pool.is_own_directory:
        if pool.host_id != host_id:
            raise NoPoolError(
                f"storageid: {pool.name} is the local storage of another host",
                "choose a pool of this host, of its cluster or of the whole zone",
                parameter="storageid",
            )
        if missing := tags - pool.tag_set:
            raise NoPoolError(
                f"{pool.name} takes no volume: it does not have the tags of the offering:"
                f" {', '.join(sorted(missing))}",
                "add them with updateStoragePool, or choose another offering",
            )
        return
    for candidate in candidates(connection, host_id, usages):
        if candidate.pool.id == pool.id:
            why = candidate.refusal(size_bytes, tags, provisioning)
            if why is None:
                return
            raise NoPoolError(
                f"storageid: {pool.name} takes no volume: {why}", "choose another pool", parameter="storageid"
            )
    raise NoPoolError(
        f"storageid: {pool.name} cannot be used on the host of the volume: its scope is {pool.scope}",
        "choose a pool of that host, of its cluster or of the whole zone",
        parameter="storageid",
    )


def check_has_space(
    connection: Connection, pool: StoragePool, usages: Usages, more_bytes: int, provisioning: Provisioning
) -> None:
    """Check that one of a pool's volumes can have so much more, also while the pool takes no new ones.

    Raises: NoPoolError with the reason when it cannot.
    """
    [candidate] = _with_figures(connection, [pool], usages)
    if pool.state in (storage_pools.UP, storage_pools.DISABLED):
        why = candidate.lack_of_space(more_bytes, provisioning)
    else:
        why = f"it is {pool.state}"
    if why is not None:
        raise NoPoolError(
            f"size: storage pool {pool.name} has no space for it: {why}",
            "choose a smaller size, make room in the pool, or move the volume with migrateVolume",
            parameter="size",
        )


@frozen
class PoolWish:
    """Where a new volume is to be, and how full the pools were a moment ago."""

    host_id: int
    usages: Usages = field(factory=dict)
    is_shared: bool = False  # in any pool of several hosts
    pool_uuid: str | None = None  # in this pool
    tags: frozenset[str] = frozenset()

    def take(
        self, connection: Connection, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> int | None:
        """Return the number of the pool, None for the host's own directory.

        It is called in the transaction that creates the volume: two requests cannot both get the last place.

        Raises: NoPoolError with the reason when no pool takes the volume.
        """
        if self.is_shared or self.pool_uuid is not None:
            storage_pools.lock(connection)
        if self.is_shared and self.pool_uuid is None:
            return choose(connection, self.host_id, self.usages, size_bytes, self.tags, provisioning).id
        if self.pool_uuid is None:
            pool = storage_pools.pool_of_host(connection, self.host_id)
        else:
            pool = storage_pools.by_uuid(connection, self.pool_uuid)
        if pool is None:
            return None
        check_takes(connection, pool, self.host_id, self.usages, size_bytes, self.tags, provisioning)
        return None if pool.is_own_directory else pool.id
