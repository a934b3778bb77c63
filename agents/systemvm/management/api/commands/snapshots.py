# SPDX-License-Identifier: Apache-2.0
"""createSnapshot, listSnapshots, deleteSnapshot, revertSnapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.snapshots import SnapshotAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    ResultPage,
    StartedJob,
)
from systemvm.management.api.commands.own_storage import name_of, own_snapshot, own_snapshot_in, own_volume
from systemvm.management.api.commands.tags import tag_answers
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import job_columns, start_job
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import ParameterType, named_uuids, only, optional, required
from systemvm.management.api.tag_parameters import NEW_TAGS, TAGGED, given_tags, wanted_tags
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.snapshots.copies import SnapshotCopies
from systemvm.management.snapshots.errors import SnapshotError
from systemvm.management.snapshots.policies import TAKE, SnapshotPolicies
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import jobs, snapshot_list, snapshots, tags, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.jobs import Job
from systemvm.management.state.snapshot_list import SnapshotFilter, SnapshotOfVolume
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import SnapshotState, VolumeState
from systemvm.management.state.tags import Tag
from systemvm.management.state.volumes import Volume
from systemvm.service.errors import SystemVmError


class SnapshotCommands:
    """Handlers of these commands."""

    def __init__(
        self,
        database: Database,
        service: VolumeSnapshots,
        policies: SnapshotPolicies,
        copies: SnapshotCopies,
        jobs: JobRunner,
    ) -> None:
        self._database = database
        self._snapshots = service
        self._policies = policies
        self._copies = copies
        self._jobs = jobs
        jobs.register(TAKE, self._run_create, resumes=True)
        jobs.register("deleteSnapshot", self._run_delete, resumes=True)
        jobs.register("revertSnapshot", self._run_revert, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        text, identity, flag = ParameterType.STRING, ParameterType.UUID, ParameterType.BOOLEAN
        its = required("id", identity, "the snapshot")
        related = ("listSnapshots",)
        return (
            Command(
                "createSnapshot", self._create,
                "Takes a snapshot of a volume, whose VM can run: what a power cut would leave on its disk.",
                SnapshotAnswer, "snapshot", ResponseShape.ASYNC,
                (
                    required("volumeid", identity, "the volume"),
                    optional("name", text, "its name; by default that of the volume with the time"),
                    optional("quiescevm", flag, "have the guest agent write caches, and hold them still"),
                    optional("zoneids", ParameterType.LIST, "further zones that it is copied to"),
                    NEW_TAGS,
                    only("asyncbackup", flag, "copy it to secondary storage later", False),
                    only("locationtype", text, "where it is kept", "SECONDARY"),
                ),
                related=related,
            ),
            Command(
                "listSnapshots", self._list, "Lists snapshots of volumes.",
                SnapshotAnswer, "snapshot", ResponseShape.LIST,
                (
                    optional("id", identity, "list only the one with this id"),
                    optional("ids", ParameterType.LIST, "list only those with these ids"),
                    optional("name", text, "list only the one with this name"),
                    optional("volumeid", identity, "list only those of this volume"),
                    optional("zoneid", identity, "list only those of this zone"),
                    optional("state", text, "list only those in this state"),
                    optional("snapshottype", text, "list only those of this type"),
                    optional("intervaltype", text, "list only those of this type"),
                    only("locationtype", text, "where they are kept", "SECONDARY"),
                    optional("showunique", flag, "list a snapshot and its copies in other zones once"),
                    TAGGED,
                    *OWNERS,
                ),
                sortable=tuple(snapshot_list.SORT_KEYS),
                kept=True,
            ),
            Command(
                "deleteSnapshot", self._delete,
                "Deletes a snapshot. Others that are increments on it stay complete.",
                SuccessAnswer, "", ResponseShape.ASYNC,
                (its, optional("zoneid", identity, "delete it in this zone only, or its copy there")),
                related=related,
            ),
            Command(
                "revertSnapshot", self._revert,
                "Makes a snapshot the content of its volume again, whose VM must be stopped.",
                SnapshotAnswer, "snapshot", ResponseShape.ASYNC, (its,), related=related,
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> StartedJob:
        volume = await self._database.read(own_volume, call.arguments["volumeid"], call.principal)
        zone_ids = await self._database.read(_other_zones, call, volume)
        given = given_tags(call.arguments)
        new = NewSnapshot(volume.id, name_of(call), call.principal.user.id)
        quiesce = call.arguments.flag("quiescevm")

        def create(connection: Connection) -> Job:
            snapshot = self._snapshots.create_in(connection, new)
            tags.add(connection, "Snapshot", snapshot.uuid, snapshot.account_id, given)
            arguments = {"id": snapshot.id, "quiesce": quiesce, "zones": zone_ids}
            columns = job_columns(call, about="Snapshot", uuid=snapshot.uuid)
            return jobs.create(connection, command=TAKE, arguments=arguments, **columns)

        job = await self._jobs.submit_in(create)
        return StartedJob(job.uuid, job.instance_uuid)

    async def _delete(self, call: ApiCall) -> StartedJob:
        zone = call.arguments.text("zoneid")
        snapshot = await self._database.read(own_snapshot_in, call.arguments["id"], zone, call.principal)
        copies = [] if zone else await self._database.read(snapshots.copies_of, snapshot.id)
        return await self._start(call, "deleteSnapshot", snapshot, copies=[each.id for each in copies])

    async def _revert(self, call: ApiCall) -> StartedJob:
        snapshot = await self._database.read(own_snapshot, call.arguments["id"], call.principal)
        return await self._start(call, "revertSnapshot", snapshot)

    async def _start(self, call: ApiCall, command: str, snapshot: Snapshot, **more: Any) -> StartedJob:
        arguments = {"id": snapshot.id} | more
        return await start_job(self._jobs, call, command, arguments, about="Snapshot", uuid=snapshot.uuid)

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)

    async def _run_create(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        quiesce, zone_ids = wanted.get("quiesce", False), wanted.get("zones", ())  # not in jobs of policies

        def report(percent: int, text: str) -> None:
            running.progress(percent // 2 if zone_ids else percent, text)

        snapshot = await self._snapshots.take(wanted["id"], report, quiesce=quiesce)
        await self._policies.taken(snapshot)
        if zone_ids:
            await self._copy(running, snapshot, zone_ids)
        return await self._result(snapshot)

    async def _copy(self, running: RunningJob, snapshot: Snapshot, zone_ids: list[int]) -> None:
        job = running.job

        def report(percent: int, text: str) -> None:
            running.progress(50 + percent // 2, text)

        try:
            copies = await self._copies.create(snapshot.id, zone_ids, job.user_id)
            await self._copies.make([each.id for each in copies], job.user_id, job.request_id, report)
        except SystemVmError as error:
            raise SnapshotError(
                f"{snapshot.name} is BackedUp, but is not in all zones: {error.message}",
                error.hint or "copy it with copySnapshot",
            ) from error

    async def _run_delete(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        copies = wanted.get("copies", ())  # jobs of an earlier release have none
        await self._snapshots.delete(wanted["id"], *copies)
        return dict(plain(SuccessAnswer(success=True)))

    async def _run_revert(self, running: RunningJob) -> dict[str, Any]:
        return await self._result(await self._snapshots.revert(running.job.arguments["id"]))

    async def _result(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"snapshot": plain(await self._database.read(answer_for, snapshot))}


def _other_zones(connection: Connection, call: ApiCall, volume: Volume) -> list[int]:
    """Return the zones that a snapshot is copied to; it is in its volume's zone in any case."""
    found = (zones.zone_by_uuid(connection, uuid).id for uuid in call.arguments.get("zoneids", []))
    return [zone_id for zone_id in dict.fromkeys(found) if zone_id != volume.zone_id]


def answer_for(connection: Connection, snapshot: Snapshot) -> SnapshotAnswer:
    tagged = tags.of_objects(connection, [snapshot.uuid]).get(snapshot.uuid, ())
    return _answer(snapshot_list.one(connection, snapshot.id), read_names(connection), tagged, False)


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a list's page.

    Raises: ApiError 431 for a page that does not exist or an unknown owner.
    """
    arguments, names = call.arguments, read_names(connection)
    window = page_window(arguments)
    which = SnapshotFilter(
        account_ids=owners_of(connection, call).account_ids,
        uuids=named_uuids(arguments),
        name=arguments.text("name"),
        volume_uuid=arguments.text("volumeid"),
        zone_id=names.number_of_zone(arguments.text("zoneid")),
        state=arguments.text("state"),
        snapshot_type=arguments.text("snapshottype"),
        interval_type=arguments.text("intervaltype"),
        keyword=arguments.text("keyword"),
        tags=wanted_tags(arguments),
        # whoever asks for a zone or an id wants the copy there, or that one
        once=arguments.flag("showunique") and not any(name in arguments for name in ("id", "ids", "zoneid")),
    )
    found, count = snapshot_list.page(connection, which, window, sort_order(arguments))
    tagged = tags.of_objects(connection, [each.snapshot.uuid for each in found])
    answers = [
        _answer(each, names, tagged.get(each.snapshot.uuid, ()), call.principal.is_admin) for each in found
    ]
    return ResultPage(answers, count)


def _answer(
    listed: SnapshotOfVolume, names: OwnerNames, tagged: Sequence[Tag], for_admin: bool
) -> SnapshotAnswer:
    snapshot, volume = listed.snapshot, listed.volume
    account, zone = names.accounts[snapshot.account_id], names.zone(snapshot.zone_id)
    domain = names.domains[snapshot.domain_id]
    store = names.stores.get(snapshot.store_id) if for_admin else None
    is_stored = snapshot.state is SnapshotState.BACKED_UP
    return SnapshotAnswer(
        id=snapshot.uuid,
        tags=tag_answers(tagged, names),
        name=snapshot.name,
        state=snapshot.state.value,
        reason=snapshot.error_text,
        hint=snapshot.error_hint or None,
        account=account.name,
        domainid=domain.uuid,
        domain=domain.name,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        volumeid=volume.uuid,
        volumename=volume.name,
        volumetype=volume.type,
        volumestate=volume.state.value,
        snapshottype=snapshot.interval_type,
        intervaltype=snapshot.interval_type,
        locationtype="SECONDARY",
        revertable=is_stored
        and snapshot.copy_of is None
        and volume.removed is None
        and volume.state is VolumeState.READY,
        virtualsize=snapshot.size_bytes,
        physicalsize=snapshot.physical_size_bytes,
        parentid=listed.parent_uuid,
        copyof=listed.origin_uuid,
        datastoreid=store.uuid if store else None,
        datastorename=store.name if store else None,
        created=snapshot.created,
    )
