# SPDX-License-Identifier: Apache-2.0
"""copySnapshot."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.snapshots import SnapshotAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.own_storage import own_snapshot
from systemvm.management.api.commands.snapshots import answer_for
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.snapshots.copies import COPY, SnapshotCopies
from systemvm.management.state import zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.snapshots import Snapshot

UUID = ParameterType.UUID


class SnapshotCopyCommands:
    """The handler of the command."""

    def __init__(self, database: Database, copies: SnapshotCopies, jobs: JobRunner) -> None:
        self._database = database
        self._copies = copies
        self._jobs = jobs
        jobs.register(COPY, self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                COPY, self._copy,
                "Copies a snapshot to further zones, where it is one that needs nothing of this zone.",
                SnapshotAnswer, "snapshot", ResponseShape.ASYNC,
                (
                    required("id", UUID, "the snapshot"),
                    optional("sourcezoneid", UUID, "its zone, which it must name if it is given"),
                    optional("destzoneid", UUID, "the zone that it is copied to"),
                    optional("destzoneids", ParameterType.LIST, "or the zones"),
                    only("usestoragereplication", ParameterType.BOOLEAN, "copy it on primary storage", False),
                ),
                related=("listSnapshots", "createVolume"),
            ),
        )  # fmt: skip

    async def _copy(self, call: ApiCall) -> StartedJob:
        snapshot, zone_ids = await self._database.read(_to_copy, call)
        copies = await self._copies.create(snapshot.id, zone_ids, call.principal.user.id)
        return await start_job(
            self._jobs, call, COPY, {"copies": [each.id for each in copies]},
            about="Snapshot", uuid=copies[0].uuid,
        )  # fmt: skip

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        """Return the first copy, as CloudStack does."""
        job = running.job
        copies = await self._copies.make(
            job.arguments["copies"], job.user_id, job.request_id, running.progress
        )
        return {"snapshot": plain(await self._database.read(answer_for, copies[0]))}


def _to_copy(connection: Connection, call: ApiCall) -> tuple[Snapshot, list[int]]:
    arguments = call.arguments
    snapshot = own_snapshot(connection, arguments["id"], call.principal)
    if snapshot.copy_of is not None:
        raise parameter_error(
            "id", f"id: {snapshot.name} is a copy itself", "copy the snapshot that it was copied from"
        )
    one = [arguments["destzoneid"]] if "destzoneid" in arguments else []
    uuids = [*one, *arguments.get("destzoneids", [])]
    if not uuids:
        raise parameter_error(
            "destzoneid", "Either destzoneid or destzoneids parameters have to be specified.", "see listZones"
        )
    zone_ids = list(dict.fromkeys(zones.zone_by_uuid(connection, uuid).id for uuid in uuids))
    if snapshot.zone_id in zone_ids:
        raise parameter_error(
            "destzoneid" if one else "destzoneids", "Please specify different source and destination zones."
        )
    source = arguments.text("sourcezoneid")
    if source is not None and zones.zone_by_uuid(connection, source).id != snapshot.zone_id:
        raise parameter_error(
            "sourcezoneid", f"sourcezoneid: {snapshot.name} is in another zone", "omit sourcezoneid"
        )
    return snapshot, zone_ids
