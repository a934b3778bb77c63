# SPDX-License-Identifier: Apache-2.0
"""Recurring snapshots: takes those that are due, and deletes the oldest of a policy that keeps fewer.

When a policy is due is in the database, so that a pass costs one query and the work for what is due. What was
missed while no daemon ran is made up for by one snapshot.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.jobs.runner import JobRunner
from systemvm.management.snapshots import policy_changes
from systemvm.management.snapshots.errors import SnapshotError
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.state import jobs as job_rows
from systemvm.management.state import snapshot_policies, snapshots
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import SnapshotState
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.service.periodic import Periodic

#: The jobs that take snapshots, whoever asked for them.
TAKE = "createSnapshot"
INTERVAL_S = 60.0
#: How many snapshots a pass begins at most; the next pass begins the others.
BEGUN_AT_ONCE = 100


class SnapshotPolicies:
    """The policies of the volumes of this host."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        service: VolumeSnapshots,
        jobs: JobRunner,
        settings: StoreSettings,
        *,
        host_id: int,
    ) -> None:
        self._database = database
        self._snapshots = service
        self._jobs = jobs
        self._settings = settings
        self._host_id = host_id
        self._loop = Periodic(clock, self.take_due, INTERVAL_S, what="take recurring snapshots")

    async def start(self) -> None:
        """Continue what a killed daemon has begun without a job, and take what is due from now on."""
        for snapshot in await self._database.read(_without_job, self._host_id):
            await self._submit(snapshot)
        self._loop.start(now=True)

    def stop(self) -> None:
        self._loop.stop()

    async def take_due(self) -> int:
        """Begin the snapshots that are due, and return how many."""
        begun = 0
        for policy_id in await self._database.read(snapshot_policies.due, self._host_id, BEGUN_AT_ONCE):
            try:
                snapshot = await self._database.run(
                    policy_changes.begin_due, policy_id, now(), self._settings
                )
                if snapshot is not None:
                    await self._submit(snapshot)
                    begun += 1
            except Exception:
                self._log.failure("cannot take the snapshot of policy {id}", id=policy_id)
        return begun

    async def taken(self, snapshot: Snapshot) -> None:
        """Delete what the policy of a snapshot does not keep any more."""
        for each in await self._database.read(_not_kept, snapshot):
            try:
                await self._snapshots.delete(each.id)
            except SnapshotError as error:  # its file is deleted later
                self._log.warn("{uuid}: {why}", uuid=each.uuid, why=error.message)

    async def _submit(self, snapshot: Snapshot) -> None:
        await self._jobs.submit(
            TAKE,
            {"id": snapshot.id},
            account_id=snapshot.account_id,
            domain_id=snapshot.domain_id,
            instance_type="Snapshot",
            instance_uuid=snapshot.uuid,
        )


def _without_job(connection: Connection, host_id: int) -> list[Snapshot]:
    known = {job.instance_uuid for job in job_rows.pending(connection) if job.command == TAKE}
    return [each for each in snapshots.unfinished(connection, host_id) if each.uuid not in known]


def _not_kept(connection: Connection, snapshot: Snapshot) -> list[Snapshot]:
    """Return the stored ones beyond the policy's number, and the failed ones before those that are kept."""
    policy = snapshot_policies.of_volume(connection, snapshot.volume_id, snapshot.interval_type)
    if policy is None:
        return []
    found = snapshots.of_interval(connection, snapshot.volume_id, snapshot.interval_type)
    stored = [each for each in found if each.state is SnapshotState.BACKED_UP]
    kept = stored[-policy.max_snapshots :]
    return [each for each in found if kept and each.id < kept[0].id and each.state.has_ended]
