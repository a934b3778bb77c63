# SPDX-License-Identifier: Apache-2.0
"""createTemplate, extractSnapshot and extractVolume: what an SSVM makes from a snapshot or a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from systemvm.management import os_types
from systemvm.management.api.answers.extracts import ExtractAnswer
from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.extracts import HTTP_DOWNLOAD, answer_of
from systemvm.management.api.commands.own_storage import own_snapshot_in, own_volume
from systemvm.management.api.commands.template_copy import answer_for_job
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import object_error, parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.snapshots import transitions
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.state import events, instances, snapshots, templates, volumes, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.state.volumes import Volume
from systemvm.management.templates.extraction import CreatedLink
from systemvm.management.templates.registration import Registration, RegistrationError
from systemvm.management.volumes.transitions import check_usable

STRING, UUID, BOOLEAN, INTEGER, *_ = ParameterType  # in the order of their declaration
_CREATE_TEMPLATE = (
    required("name", STRING, "the name"),
    optional("displaytext", STRING, "description for people; the name by default"),
    optional("snapshotid", UUID, "the snapshot that it is made from"),
    optional("volumeid", UUID, "or the volume, whose VM must be stopped"),
    optional("zoneid", UUID, "the zone: of the volume, of the snapshot or of its copy there"),
    optional("ostypeid", UUID, "the guest's operating system; that of the volume's template by default"),
    optional("ispublic", BOOLEAN, "let other accounts use it"),
    optional("isfeatured", BOOLEAN, "feature it; for administrators only"),
    optional("requireshvm", BOOLEAN, "it needs hardware virtualization"),
    optional("passwordenabled", BOOLEAN, "guests take passwords from the cloud"),
    only("isdynamicallyscalable", BOOLEAN, "change the size of running VMs", False),
    only("sshkeyenabled", BOOLEAN, "guests take SSH keys from the cloud", False),
    only("bits", INTEGER, "32 or 64", 64),
)
_MODE = required("mode", STRING, "how to download it", choices=(HTTP_DOWNLOAD,))


class SnapshotImageCommands:
    """Handlers of these commands; `is_disabled` returns CloudStack's disable.extraction of a zone by name."""

    def __init__(
        self, database: Database, images: SnapshotImages, jobs: JobRunner, is_disabled: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._images = images
        self._jobs = jobs
        self._is_disabled = is_disabled
        jobs.register("createTemplate", self._run_create, resumes=True)
        jobs.register("extractSnapshot", self._run_snapshot, resumes=True)
        jobs.register("extractVolume", self._run_volume, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "createTemplate", self._create,
                "Creates a template from a snapshot, or from a volume whose VM is stopped.",
                TemplateAnswer, "template", ResponseShape.ASYNC, _CREATE_TEMPLATE,
                related=("listTemplates", "createSnapshot"),
            ),
            Command(
                "extractSnapshot", self._extract_snapshot,
                "Creates a temporary link by which a snapshot can be downloaded, as one standalone image.",
                ExtractAnswer, "snapshot", ResponseShape.ASYNC,
                (
                    required("id", UUID, "the snapshot"),
                    optional("zoneid", UUID, "its zone, or that of its copy; by default its own"),
                ),
                related=("listSnapshots",),
            ),
            Command(
                "extractVolume", self._extract_volume,
                "Creates a temporary link by which a volume can be downloaded, whose VM must be stopped.",
                ExtractAnswer, "volume", ResponseShape.ASYNC,
                (
                    required("id", UUID, "the volume"),
                    _MODE,
                    optional("zoneid", UUID, "its zone, which it must name if it is given"),
                ),
                related=("listVolumes",),
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> StartedJob:
        arguments = call.arguments
        if ("snapshotid" in arguments) == ("volumeid" in arguments):
            raise parameter_error(
                "snapshotid", "Either snapshotid or volumeid must be given", "send one of the two"
            )
        user_id = call.principal.user.id
        if "snapshotid" in arguments:
            snapshot = await self._database.read(
                own_snapshot_in, arguments["snapshotid"], arguments.text("zoneid"), call.principal
            )
            volume = await self._database.read(volumes.by_id, snapshot.volume_id)
            registration = await self._database.read(_registration, call, volume, snapshot.zone_id)
            template = await self._images.create_template(snapshot.id, registration, user_id, call.request_id)
            return await start_job(
                self._jobs, call, "createTemplate", {"id": template.id},
                about="Template", uuid=template.uuid, creates=True,
            )  # fmt: skip
        volume = await self._database.read(_resting_volume, arguments["volumeid"], call)
        registration = await self._database.read(_registration, call, volume, volume.zone_id or 0)
        taken = await self._images.snapshot_of_volume(volume.id, snapshots.FOR_TEMPLATE, user_id)
        image = {
            "name": registration.name,
            "display_text": registration.display_text,
            "os_type": registration.os_type,
            "arch_name": registration.arch,
            "featured": registration.featured,
            "public": registration.public,
            "extractable": registration.extractable,
            "hvm": registration.hvm,
        }
        return await start_job(
            self._jobs, call, "createTemplate", {"snapshot": taken.id, "image": image},
            about="Volume", uuid=volume.uuid,
        )  # fmt: skip

    async def _run_create(self, running: RunningJob) -> dict[str, Any]:
        job, report = running.job, running.progress
        if "snapshot" in job.arguments:
            registration = Registration.of(format_name="QCOW2", url=None, **job.arguments["image"])
            template = await self._images.template_of_volume(
                job.arguments["snapshot"], registration, job.user_id, job.request_id, report
            )
        else:
            template = await self._images.ready(job.arguments["id"], report)
        answer = await self._database.read(answer_for_job, template, template.zone_id or 0, job.user_id)
        return {"template": plain(answer)}

    async def _extract_snapshot(self, call: ApiCall) -> StartedJob:
        snapshot = await self._database.read(
            own_snapshot_in, call.arguments["id"], call.arguments.text("zoneid"), call.principal
        )
        transitions.check_stored(snapshot)
        await self._database.read(self._check_extractable, call, snapshot.zone_id, snapshot.volume_id)
        return await start_job(
            self._jobs, call, "extractSnapshot", {"id": snapshot.id}, about="Snapshot", uuid=snapshot.uuid
        )

    async def _extract_volume(self, call: ApiCall) -> StartedJob:
        volume = await self._database.read(_resting_volume, call.arguments["id"], call)
        await self._database.read(self._check_extractable, call, volume.zone_id or 0, volume.id)
        taken = await self._images.snapshot_of_volume(volume.id, snapshots.FOR_LINK, call.principal.user.id)
        arguments = {"id": volume.id, "snapshot": taken.id}
        return await start_job(self._jobs, call, "extractVolume", arguments, about="Volume", uuid=volume.uuid)

    async def _run_snapshot(self, running: RunningJob) -> dict[str, Any]:
        job = running.job
        link = await self._images.link(job.arguments["id"], job.request_id, running.progress)
        snapshot = await self._database.read(snapshots.by_id, job.arguments["id"])
        await self._database.run(_note, link, "SNAPSHOT.EXTRACT", "Snapshot", snapshot.uuid, job.user_id)
        return {"snapshot": dict(plain(await self._database.read(answer_of, link, snapshot)))}

    async def _run_volume(self, running: RunningJob) -> dict[str, Any]:
        job = running.job
        link = await self._images.link_to_volume(job.arguments["snapshot"], job.request_id, running.progress)
        volume = await self._database.read(volumes.by_id, job.arguments["id"])
        await self._database.run(_note, link, "VOLUME.EXTRACT", "Volume", volume.uuid, job.user_id)
        return {"volume": dict(plain(await self._database.read(answer_of, link, volume)))}

    def _check_extractable(self, connection: Connection, call: ApiCall, zone_id: int, volume_id: int) -> None:
        zone = zones.zone_by_id(connection, zone_id)
        _check_zone(connection, call, zone_id)
        if self._is_disabled(zone.name):
            raise unauthorized("Extraction has been disabled by admin")
        template = _template_of(connection, volumes.by_id(connection, volume_id))
        if template is not None and not template.extractable and not call.principal.is_admin:
            raise unauthorized(
                f"account {call.principal.account.name} must not extract what comes from {template.name},"
                " which is not extractable"
            )


def _registration(connection: Connection, call: ApiCall, volume: Volume, zone_id: int) -> Registration:
    """Return what is created; its user can extract it when the template of the volume can be extracted."""
    arguments = call.arguments
    _check_zone(connection, call, zone_id)
    featured = arguments.flag("isfeatured")
    if featured and not call.principal.is_admin:
        raise parameter_error(
            "isfeatured", "Parameter isfeatured=true can be passed by Admin only", "omit isfeatured"
        )
    os_type, origin = arguments.text("ostypeid"), _template_of(connection, volume)
    if os_type is not None and os_types.find(os_type) is None:
        raise parameter_error("ostypeid", f"there is no OS type with the id {os_type}", "call listOsTypes")
    zone = zones.zone_by_id(connection, zone_id)
    try:
        return Registration.of(
            format_name="QCOW2",
            name=arguments["name"],
            url=None,
            display_text=arguments.get("displaytext", ""),
            os_type=os_type or (origin.os_type if origin else None) or os_types.DEFAULT.id,
            arch_name=(origin.arch if origin else None) or zone.arch or "amd64",
            featured=featured,
            public=arguments.flag("ispublic"),
            extractable=origin is not None and origin.extractable,
            hvm=arguments.flag("requireshvm", True),
            password_enabled=arguments.flag("passwordenabled"),
        )
    except RegistrationError as error:
        raise parameter_error(
            error.parameter, f"Invalid value for parameter {error.parameter}: {error.message}"
        ) from None


def _resting_volume(connection: Connection, uuid: str, call: ApiCall) -> Volume:
    """Return a volume that nothing writes to.

    Raises: ApiError 431 while its VM is not stopped.
    """
    volume = own_volume(connection, uuid, call.principal)
    check_usable(volume, call.arguments.name_of(uuid))
    vm = None if volume.vm_id is None else instances.by_id(connection, volume.vm_id)
    if vm is not None and vm.state is not InstanceState.STOPPED:
        raise object_error(
            uuid,
            f"Invalid state of the volume {volume.name}: its VM {vm.name} is {vm.state.value}",
            "stop the VM, or take a snapshot and use that",
        )
    return volume


def _template_of(connection: Connection, volume: Volume) -> Template | None:
    return None if volume.template_id is None else templates.by_id(connection, volume.template_id)


def _check_zone(connection: Connection, call: ApiCall, zone_id: int) -> None:
    uuid = call.arguments.text("zoneid")
    if uuid is not None and zones.zone_by_uuid(connection, uuid).id != zone_id:
        raise parameter_error("zoneid", "it is in another zone than zoneid", "omit zoneid")


def _note(
    connection: Connection, link: CreatedLink, event: str, kind: str, uuid: str, user_id: int | None
) -> None:
    row = link.row
    events.record(
        connection,
        event,
        f"{row.file_name} can be downloaded by a link until {row.expires:%Y-%m-%d %H:%M} UTC",
        account_id=row.account_id,
        domain_id=row.domain_id,
        user_id=user_id,
        zone_id=row.zone_id,
        resource_type=kind,
        resource_uuid=uuid,
    )
