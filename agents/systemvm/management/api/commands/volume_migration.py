# SPDX-License-Identifier: Apache-2.0
"""migrateVolume."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.volumes import VolumeAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.volumes import answer_for
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, only, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import storage_pools, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.migration import VolumeMigration, check_movable
from systemvm.management.volumes.transitions import check_can_be_in

_COMMAND = "migrateVolume"


class VolumeMigrationCommands:
    """The handler of the command, and its job."""

    def __init__(
        self, database: Database, migration: VolumeMigration, pools: StoragePools, jobs: JobRunner
    ) -> None:
        self._database = database
        self._migration = migration
        self._pools = pools
        self._jobs = jobs
        jobs.register(_COMMAND, self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        uuid = ParameterType.UUID
        return (
            Command(
                _COMMAND, self._start,
                "Copies a volume to another storage pool and deletes it in its own; its VM must be stopped.",
                VolumeAnswer, "volume", ResponseShape.ASYNC,
                (
                    required("volumeid", uuid, "UUID of the volume; see listVolumes"),
                    required("storageid", uuid, "UUID of the storage pool; see listStoragePools"),
                    only("livemigrate", ParameterType.BOOLEAN, "move it while its VM runs", False),
                ),
                roles=ADMIN_ONLY, related=("listStoragePools", "listVolumes"),
            ),
        )  # fmt: skip

    async def _start(self, call: ApiCall) -> StartedJob:
        usages = await self._pools.usages()
        arguments = call.arguments
        volume, target = await self._database.read(
            _checked, arguments["volumeid"], arguments["storageid"], usages
        )
        job = {"id": volume.id, "source": volume.pool_id, "target": target}
        return await start_job(self._jobs, call, _COMMAND, job, about="Volume", uuid=volume.uuid)

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        usages = await self._pools.usages()
        volume = await self._migration.migrate(wanted["id"], wanted["source"], wanted["target"], usages)
        return {"volume": plain(await self._database.read(answer_for, volume))}


def _checked(
    connection: Connection, volume_uuid: str, pool_uuid: str, usages: Usages
) -> tuple[Volume, int | None]:
    """Return a volume and the number of the pool that it can be moved to.

    Raises: VolumeError with the reason when it cannot.
    """
    volume = volumes.by_uuid(connection, volume_uuid)
    return volume, check_target(connection, volume, pool_uuid, usages)


def check_target(connection: Connection, volume: Volume, pool_uuid: str, usages: Usages) -> int | None:
    """Return the number of a pool that a volume can be moved to, or None for its host's own directory.

    Raises: VolumeError with the reason when it cannot.
    """
    pool = storage_pools.by_uuid(connection, pool_uuid)
    target = None if pool.is_own_directory else pool.id
    check_movable(connection, volume)
    if target != volume.pool_id or (pool.is_own_directory and pool.host_id != volume.host_id):
        check_can_be_in(connection, volume, pool, usages)
    return target
