# SPDX-License-Identifier: Apache-2.0
"""Moves templates from one image store to others: all of them, or as many as balance asks for.

A template moves by a copy that is verified; only then its old copy is deleted. Every step is a row, so a
migration that is interrupted by a restart of the daemon continues from what it finds.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from systemvm.management.image_stores.replicas import order_copy
from systemvm.management.jobs.runner import RunningJob
from systemvm.management.state import events, jobs, replicas, store_contents, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import StoreRef
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates import downloads
from systemvm.management.templates.fullness import Fullness
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import DownloadState

POLL_INTERVAL_S = 2.0
#: How many templates move at a time: the others wait for room and for an SSVM.
MAX_MOVING = 8
MAX_NAMES = 10
#: An argument that a job gets when it is canceled.
_CANCELED = "canceled"


class MigrationType(enum.Enum):
    """CloudStack's migrationtype."""

    COMPLETE = "COMPLETE"
    BALANCE = "BALANCE"


class MigrationError(SystemVmError):
    """A migration that cannot begin, or that could not move everything."""

    code = FailureCode.UNAVAILABLE


class MigrationCanceledError(MigrationError):
    """An administrator has canceled it; what was moved stays moved."""

    code = FailureCode.WRONG_STATE


@frozen
class MigrationProgress:
    """Where a migration stands."""

    moved: int
    total: int
    moved_bytes: int
    total_bytes: int
    failures: tuple[str, ...] = ()
    waits: bool = False  # nothing moves, and something is left

    @property
    def is_done(self) -> bool:
        return self.moved == self.total

    @property
    def percent(self) -> int:
        if not self.total:
            return 100
        if not self.total_bytes:
            return 100 * self.moved // self.total
        return min(99 if self.moved < self.total else 100, 100 * self.moved_bytes // self.total_bytes)

    def text(self, store: ImageStore) -> str:
        gib = f"{self.moved_bytes / 2**30:.1f} of {self.total_bytes / 2**30:.1f} GiB"
        return f"moved {self.moved} of {self.total} templates, {gib}, from {store.name}"


class StoreMigration:
    """Runs migrations, one for each source; `wake()` has the dispatcher work on new rows."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, database: Database, settings: StoreSettings, wake: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._database = database
        self._settings = settings
        self._wake = wake
        self._running: set[int] = set()

    def is_running(self, store_id: int) -> bool:
        return store_id in self._running

    async def check(self, source_id: int, target_ids: Sequence[int]) -> list[ImageStore]:
        """Return the targets that can take content.

        Raises: MigrationError when there is none, or a migration from the source runs.
        """
        if self.is_running(source_id):
            raise MigrationError(
                "A migration job from this image store is in progress", "wait for its end, or cancel it"
            )
        return await self._database.read(_targets, source_id, target_ids)

    async def run(
        self, running: RunningJob, source_id: int, target_ids: Sequence[int], kind: MigrationType
    ) -> str:
        """Move the content; return a sentence about it.

        Raises: MigrationError when it cannot begin, when a template cannot be moved, or when it is canceled.
        """
        await self.check(source_id, target_ids)
        self._running.add(source_id)
        try:
            return await self._run(running, source_id, target_ids, kind)
        finally:
            self._running.discard(source_id)

    async def _run(
        self, running: RunningJob, source_id: int, target_ids: Sequence[int], kind: MigrationType
    ) -> str:
        source = await self._database.read(zones.store_by_id, source_id)
        wanted = await self._database.read(_choose, source_id, target_ids, kind, self._settings)
        if not wanted:
            if kind is MigrationType.BALANCE:
                return f"Image store {source.name} and its targets are in balance"
            return f"No files in image store {source.name} to migrate"
        await self._database.run(_renew_failed, source_id, target_ids, wanted)
        while True:
            progress = await self._database.run(_advance, source_id, target_ids, wanted, self._settings)
            running.progress(progress.percent, progress.text(source))
            self._wake()
            if progress.is_done:
                return f"Migration completed: {progress.text(source)}"
            if await self._database.read(is_canceled, running.job.id):
                await self._database.run(_withdraw, source_id, target_ids, wanted)
                self._wake()
                raise MigrationCanceledError(f"Migration is canceled: {progress.text(source)}")
            if progress.waits and progress.failures:
                raise MigrationError(
                    f"Could not migrate {'; '.join(progress.failures)}", "see listEvents, then migrate again"
                )
            await deferLater(self._clock, POLL_INTERVAL_S)


def cancel(connection: Connection, source_id: int, commands: Collection[str]) -> bool:
    """Cancel the jobs of these commands that move content from a store; return whether there is one.

    It is a row, so that a job which a kill interrupts before it has seen this does not go on.
    """
    pending = [job for job in jobs.pending(connection) if job.command in commands]
    moving = [job for job in pending if job.arguments["source"] == source_id]
    for job in moving:
        jobs.rows.update(connection, job.id, arguments=job.arguments | {_CANCELED: True})
    return bool(moving)


def is_canceled(connection: Connection, job_id: int) -> bool:
    return _CANCELED in jobs.by_id(connection, job_id).arguments


def _targets(connection: Connection, source_id: int, target_ids: Collection[int]) -> list[ImageStore]:
    source = zones.store_by_id(connection, source_id)
    stores = [zones.store_by_id(connection, each) for each in target_ids if each != source_id]
    valid = [
        store
        for store in stores
        if store.takes_content
        and not store.is_staging
        and store.removed is None
        and store.zone_id == source.zone_id
    ]
    if not valid:
        raise MigrationError(
            "No destination valid store(s) available to migrate. Could be due to invalid store ID(s) or "
            "store(s) are read-only. Terminating Migration of data",
            "name a writable store of the same zone, or add one with addImageStore",
        )
    return valid


def _choose(
    connection: Connection,
    source_id: int,
    target_ids: Collection[int],
    kind: MigrationType,
    settings: StoreSettings,
) -> dict[int, int]:
    """Return the copies that are to leave the source, with their sizes in bytes.

    Raises: MigrationError when the targets have no room for them.
    """
    source, targets = zones.store_by_id(connection, source_id), _targets(connection, source_id, target_ids)
    storage = settings.secondary_storage(zones.zone_by_id(connection, source.zone_id).name)
    found = [
        (ref.id, ref.physical_size_bytes or 0) for ref, _ in store_contents.contents(connection, source_id)
    ]
    if kind is MigrationType.BALANCE:
        return _for_balance(source, targets, found, storage.imbalance_threshold)
    size_bytes = sum(size for _, size in found)
    measured = [store for store in targets if store.capacity_bytes]
    room_bytes = sum(
        max(0, int((store.capacity_bytes or 0) * storage.capacity_threshold) - (store.used_bytes or 0))
        for store in measured
    )
    if len(measured) == len(targets) and room_bytes < size_bytes:
        raise MigrationError(
            f"Destination store(s) have not enough room: {size_bytes} bytes are to move, {room_bytes} fit "
            f"below {storage.capacity_threshold:.0%}",
            "name further stores, or free space on these",
        )
    return dict(found)


def _for_balance(
    source: ImageStore, targets: Sequence[ImageStore], found: list[tuple[int, int]], threshold: float
) -> dict[int, int]:
    """Return what brings the source to within `threshold` of the emptiest target, large files first."""
    stores = (source, *targets)
    if not all(store.capacity_bytes or store.is_unlimited for store in stores):
        return {}
    fullness = Fullness(stores)
    chosen: dict[int, int] = {}
    for ref_id, size in sorted(found, key=lambda each: -each[1]):
        emptiest = min(targets, key=fullness.ratio)
        if fullness.ratio(source) - fullness.ratio(emptiest) <= threshold:
            break
        # otherwise the imbalance would only turn round
        if fullness.ratio(source, -size) >= fullness.ratio(emptiest, size):
            chosen[ref_id] = size
            fullness.move(source, emptiest, size)
    return chosen


def _advance(
    connection: Connection,
    source_id: int,
    target_ids: Collection[int],
    wanted: dict[int, int],
    settings: StoreSettings,
) -> MigrationProgress:
    """Take each copy one step further: order its successor, or have it deleted once that is Ready."""
    source = zones.store_by_id(connection, source_id)
    zone = zones.zone_by_id(connection, source.zone_id)
    threshold = settings.secondary_storage(zone.name).capacity_threshold
    targets = [zones.store_by_id(connection, each) for each in target_ids if each != source_id]
    targets = [store for store in targets if store.takes_content and store.removed is None]
    moved = moved_bytes = moving = 0
    left: list[StoreRef] = []
    failures: list[str] = []
    for ref_id, size in wanted.items():
        ref = templates.store_refs.by_id(connection, ref_id)
        if ref.removed is not None or ref.delete_requested is not None or ref.store_id != source_id:
            moved, moved_bytes = moved + 1, moved_bytes + size
            continue
        copies = replicas.copies_in_zone(connection, ref.template_id, zone.id)
        successors = [copy for copy in copies if copy.store_id in target_ids and copy.id != ref.id]
        if any(copy.is_ready for copy in successors) or ref.state is DownloadState.DOWNLOAD_ERROR:
            _let_go(connection, source, ref, copies, targets)
            moved, moved_bytes = moved + 1, moved_bytes + size
        elif not ref.is_ready:
            moving += 1  # its own download goes on, or gets another store
        elif active := [copy for copy in successors if not copy.state.ended]:
            moving += 1
            moved_bytes += max(copy.received_bytes for copy in active)
        elif successors:
            name = templates.by_id(connection, ref.template_id).name
            failures.append(f"{name}: {successors[0].error_text or 'unknown reason'}")
        else:
            left.append(ref)
    for ref in left[: max(0, MAX_MOVING - moving)]:
        copies = replicas.copies_in_zone(connection, ref.template_id, zone.id)
        if order_copy(connection, ref.template_id, copies, targets, threshold) is not None:
            moving += 1
        else:
            name = templates.by_id(connection, ref.template_id).name
            failures.append(f"{name}: no destination store has room for it")
    return MigrationProgress(
        moved, len(wanted), moved_bytes, sum(wanted.values()), tuple(failures[:MAX_NAMES]), waits=not moving
    )


def _renew_failed(
    connection: Connection, source_id: int, target_ids: Collection[int], wanted: dict[int, int]
) -> None:
    """Begin copies anew that an earlier migration could not make."""
    zone_id = zones.store_by_id(connection, source_id).zone_id
    for ref_id in wanted:
        ref = templates.store_refs.by_id(connection, ref_id)
        for copy in replicas.copies_in_zone(connection, ref.template_id, zone_id):
            is_successor = copy.id != ref.id and copy.store_id in target_ids
            if is_successor and copy.state is DownloadState.DOWNLOAD_ERROR:
                downloads.begin_anew(connection, copy.id)


def _let_go(
    connection: Connection,
    source: ImageStore,
    ref: StoreRef,
    copies: Collection[StoreRef],
    targets: Sequence[ImageStore],
) -> None:
    """Have a copy deleted from the source; on a read-only store its file stays, and only its row goes."""
    if len(copies) == 1:  # a failed download is all that there is of it: it is retried on a target
        if targets:
            templates.update_store_ref(connection, ref.id, store_id=targets[0].id)
        return
    at = now()
    gone = {"removed": at} if source.read_only else {"delete_requested": at}
    templates.update_store_ref(connection, ref.id, **gone)


def _withdraw(
    connection: Connection, source_id: int, target_ids: Collection[int], wanted: dict[int, int]
) -> None:
    """Have the copies removed that have not ended; the sources are still there."""
    source = zones.store_by_id(connection, source_id)
    for ref_id in wanted:
        ref = templates.store_refs.by_id(connection, ref_id)
        if ref.removed is not None or ref.delete_requested is not None or not ref.is_ready:
            continue
        for copy in replicas.copies_in_zone(connection, ref.template_id, source.zone_id):
            if copy.id != ref.id and copy.store_id in target_ids and not copy.state.ended:
                templates.update_store_ref(connection, copy.id, delete_requested=now())
    events.record(
        connection,
        "IMAGE.STORE.MIGRATE.DATA",
        f"The migration from image store {source.name} is canceled",
        level="WARN",
        resource_type="ImageStore",
        resource_uuid=source.uuid,
        zone_id=source.zone_id,
    )
