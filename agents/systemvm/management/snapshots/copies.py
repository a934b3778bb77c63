# SPDX-License-Identifier: Apache-2.0
"""Copies of snapshots in other zones.

An SSVM makes one image of a snapshot, which is copied as templates are; in the other zone it becomes the file
of a snapshot, which needs neither the first one nor its zone. All steps can be repeated after a restart of
the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError

from systemvm.management.jobs.runner import JobRunner
from systemvm.management.snapshots import transitions
from systemvm.management.snapshots.errors import SnapshotError
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.snapshots.policies import TAKE
from systemvm.management.state import jobs as job_rows
from systemvm.management.state import snapshots, templates
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import SnapshotState
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.management.templates.zone_copies import ZoneCopies

Report = Callable[[int, str], None]
#: The command whose jobs make copies; those that take a snapshot make its copies, too.
COPY = "copySnapshot"


class SnapshotCopies:
    """Makes copies; `SnapshotImages` and `ZoneCopies` bring their content to the other zones."""

    def __init__(
        self,
        database: Database,
        images: SnapshotImages,
        zone_copies: ZoneCopies,
        files: SnapshotFiles,
        settings: StoreSettings,
        *,
        host_id: int,
    ) -> None:
        self._database = database
        self._images = images
        self._zone_copies = zone_copies
        self._files = files
        self._settings = settings
        self._host_id = host_id

    async def create(self, snapshot_id: int, zone_ids: Sequence[int], user_id: int | None) -> list[Snapshot]:
        """Create the rows of copies; `make` makes them. A zone that has one keeps it.

        Raises: SnapshotStateError when the snapshot cannot be read, NoStoreError when no store takes one.
        """

        def create(connection: Connection) -> list[Snapshot]:
            return [
                transitions.create_copy(connection, snapshot_id, zone_id, user_id, self._settings)
                for zone_id in zone_ids
            ]

        return await self._database.run(create)

    async def continue_unmade(self, jobs: JobRunner) -> None:
        """Make the copies whose rows were created, and then the daemon was killed before their job was."""
        for copy in await self._database.read(_without_job, self._host_id):
            await jobs.submit(
                COPY,
                {"copies": [copy.id]},
                account_id=copy.account_id,
                domain_id=copy.domain_id,
                instance_type="Snapshot",
                instance_uuid=copy.uuid,
            )

    async def make(
        self, copy_ids: Sequence[int], user_id: int | None, request_id: str, report: Report
    ) -> list[Snapshot]:
        """Bring the content of copies of one snapshot to their zones; return them.

        Raises: SnapshotError, ZoneCopyError or NoStoreError with the reason, which is then theirs, too.
        """
        copies = await self._unfinished(copy_ids)
        if copies:
            source_id = copies[0].copy_of or 0
            try:
                await self._make(source_id, copies, user_id, request_id, report)
            except CancelledError:  # the daemon ends, and the next one continues
                raise
            except Exception as error:
                message = str(getattr(error, "message", "") or error or type(error).__name__)
                hint = str(getattr(error, "hint", ""))
                for copy in await self._unfinished(copy_ids):
                    await self._database.run(transitions.set_failed, copy, message, hint)
                await self._images.forget_copied()
                raise
            await self._images.forget_copied()
        return [await self._database.read(snapshots.by_id, copy_id) for copy_id in copy_ids]

    async def _make(
        self,
        source_id: int,
        copies: Sequence[Snapshot],
        user_id: int | None,
        request_id: str,
        report: Report,
    ) -> None:
        image = await self._images.for_copies(source_id, request_id)
        await self._images.ready(image.id, lambda percent, text: report(percent // 2, text))
        await self._zone_copies.copy(
            image.id,
            [copy.zone_id for copy in copies],
            user_id,
            request_id,
            lambda percent, text: report(50 + percent // 2, text),
            transitions.is_suitable,
        )
        for copy in copies:
            ref = await self._database.read(templates.store_ref_of, image.id, copy.zone_id)
            if ref is None:
                raise SnapshotError(f"copy of {copy.name} was deleted while it was made", "copy it again")
            placed = await self._database.run(transitions.place_copy, copy, ref)
            await self._files.adopt(placed, image.account_id, image.id)
            await self._database.run(transitions.set_backed_up, placed)

    async def _unfinished(self, copy_ids: Sequence[int]) -> list[Snapshot]:
        found = [await self._database.read(snapshots.by_id, copy_id) for copy_id in copy_ids]
        return [copy for copy in found if copy.state is SnapshotState.COPYING]


def _without_job(connection: Connection, host_id: int) -> list[Snapshot]:
    pending = job_rows.pending(connection)
    made = {number for job in pending if job.command == COPY for number in job.arguments["copies"]}
    taken = {job.arguments["id"] for job in pending if job.command == TAKE}
    copies = snapshots.unfinished_copies(connection, host_id)
    return [copy for copy in copies if copy.id not in made and copy.copy_of not in taken]
