# SPDX-License-Identifier: Apache-2.0
"""migrateSecondaryStorageData, and two commands that CloudStack does not have: retireImageStore moves all
content and keeps the store from new one, cancelImageStoreMigration ends either.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.image_stores import MigrationAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.image_stores import migration
from systemvm.management.image_stores.migration import MigrationType, StoreMigration
from systemvm.management.jobs.runner import Begins, JobRunner, RunningJob
from systemvm.management.state import zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database

UUID, LIST, STRING = ParameterType.UUID, ParameterType.LIST, ParameterType.STRING
MIGRATE, RETIRE = "migrateSecondaryStorageData", "retireImageStore"

_MIGRATE = (
    required("srcpool", UUID, "UUID of the image store that content leaves"),
    required("destpools", LIST, "UUIDs of image stores of the same zone that it goes to"),
    optional(
        "migrationtype", STRING, "complete: all of it; balance: until the stores are equally full",
        choices=("complete", "balance"),
    ),
)  # fmt: skip
_RETIRE = (
    required("id", UUID, "UUID of the image store that is to be deleted afterwards"),
    optional("destpools", LIST, "UUIDs of the stores that its content goes to; all of its zone by default"),
)
_CANCEL = (required("id", UUID, "UUID of the image store that content leaves"),)


class StoreMigrationCommands:
    """Handlers of the three commands."""

    def __init__(self, database: Database, migrations: StoreMigration, jobs: JobRunner) -> None:
        self._database = database
        self._migrations = migrations
        self._jobs = jobs
        jobs.register(MIGRATE, self._run_migrate, resumes=True)
        jobs.register(RETIRE, self._run_retire, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                MIGRATE, self._migrate, "Moves templates between image stores of a zone.", MigrationAnswer,
                "imagestore", ResponseShape.ASYNC, _MIGRATE, ADMIN_ONLY, related=("listImageStores",),
            ),
            Command(
                RETIRE, self._retire, "Moves all content of an image store, which gets nothing new then.",
                MigrationAnswer, "imagestore", ResponseShape.ASYNC, _RETIRE, ADMIN_ONLY,
                related=("deleteImageStore",),
            ),
            Command(
                "cancelImageStoreMigration", self._cancel, "Ends a migration, and takes back a retirement.",
                SuccessAnswer, shape=ResponseShape.BARE, parameters=_CANCEL, roles=ADMIN_ONLY,
                related=(MIGRATE, RETIRE),
            ),
        )  # fmt: skip

    async def _migrate(self, call: ApiCall) -> StartedJob:
        source = await self._database.read(zones.image_store_by_uuid, call.arguments["srcpool"])
        targets = await self._database.read(_ids_of, call.arguments["destpools"])
        kind = MigrationType[call.arguments.get("migrationtype", "complete").upper()]
        arguments = {"source": source.id, "targets": targets, "kind": kind.value}
        return await start_job(self._jobs, call, MIGRATE, arguments, about="ImageStore", uuid=source.uuid)

    async def _retire(self, call: ApiCall) -> StartedJob:
        source = await self._database.read(zones.image_store_by_uuid, call.arguments["id"])
        targets = await self._database.read(_ids_of, call.arguments.get("destpools", []))
        arguments = {"source": source.id, "targets": targets}
        return await start_job(self._jobs, call, RETIRE, arguments, about="ImageStore", uuid=source.uuid)

    async def _cancel(self, call: ApiCall) -> SuccessAnswer:
        store = await self._database.read(zones.image_store_by_uuid, call.arguments["id"])
        await self._database.run(_cancel, store.id)
        return SuccessAnswer(success=True)

    async def _run_migrate(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        kind = MigrationType(arguments["kind"])
        message = await self._migrations.run(running, arguments["source"], arguments["targets"], kind)
        return _result(message, kind)

    async def _run_retire(self, running: RunningJob) -> dict[str, Any]:
        source_id, targets = running.job.arguments["source"], running.job.arguments["targets"]
        if not targets:
            targets = await self._database.read(_others_of_zone, source_id)
        await self._migrations.check(source_id, targets)
        begins = partial(running.begin, text="Choosing what is moved")
        await self._database.run(_mark_retiring, source_id, running.job.id, begins)
        message = await self._migrations.run(running, source_id, targets, MigrationType.COMPLETE)
        return _result(message, MigrationType.COMPLETE)


def _result(message: str, kind: MigrationType) -> dict[str, Any]:
    answer = MigrationAnswer(message=message, migrationtype=kind.value.lower(), success=True)
    return {"imagestore": plain(answer)}


def _ids_of(connection: Connection, uuids: list[str]) -> list[int]:
    return [zones.image_store_by_uuid(connection, uuid).id for uuid in uuids]


def _others_of_zone(connection: Connection, store_id: int) -> list[int]:
    zone_id = zones.store_by_id(connection, store_id).zone_id
    return [store.id for store in zones.list_image_stores(connection, zone_id) if store.id != store_id]


def _mark_retiring(connection: Connection, store_id: int, job_id: int, begins: Begins) -> None:
    """Have a store get nothing new, unless an administrator has taken that back."""
    is_wanted = begins(connection) and not migration.is_canceled(connection, job_id)
    if is_wanted and zones.store_by_id(connection, store_id).retiring is None:
        zones.update_store(connection, store_id, retiring=now())


def _cancel(connection: Connection, store_id: int) -> None:
    store = zones.store_by_id(connection, store_id)
    if not migration.cancel(connection, store_id, (MIGRATE, RETIRE)) and store.retiring is None:
        raise parameter_error("id", f"no content leaves image store {store.name}")
    zones.update_store(connection, store_id, retiring=None)
