# SPDX-License-Identifier: Apache-2.0
"""uploadVolume and getUploadParamsForVolume: a data volume with the content of a file."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.uploads import UploadParamsAnswer
from systemvm.management.api.answers.volumes import VolumeAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.own_storage import own_volume
from systemvm.management.api.commands.template_registration import named_or_only_zone
from systemvm.management.api.commands.uploads import OBJECT, UPLOAD_DEADLINE_S, answer_with
from systemvm.management.api.commands.volumes import answer_for
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.ownership import OWNER, owner_of
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import volumes
from systemvm.management.state.database import Database
from systemvm.management.state.zones import Zone
from systemvm.management.templates.registration import Registration, RegistrationError
from systemvm.management.templates.service import Owner
from systemvm.management.volumes.uploads import VolumeUploads
from systemvm.wire.storage import ImageFormat

STRING, UUID = ParameterType.STRING, ParameterType.UUID
_CHECKSUM = "digest of the file as {ALG}hex (without {ALG} its length decides)"
_UPLOADED = (
    required("name", STRING, "the name"),
    required("format", STRING, "QCOW2, RAW, VHD, VHDX, VMDK, OVA or TAR"),
    required("zoneid", UUID, "the zone"),
    optional("checksum", STRING, _CHECKSUM),
    *OWNER,
)


class VolumeUploadCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database, uploads: VolumeUploads, jobs: JobRunner) -> None:
        self._database = database
        self._uploads = uploads
        self._jobs = jobs
        jobs.register("uploadVolume", self._run_register, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "uploadVolume", self._register,
                "Creates a data volume from a URL. The first VM that it is attached to gets it.",
                VolumeAnswer, "volume", ResponseShape.ASYNC,
                (*_UPLOADED, required("url", STRING, "where an SSVM downloads it from: http, https or oci")),
                related=("listVolumes", "attachVolume"),
            ),
            Command(
                "getUploadParamsForVolume", self._receive,
                "Creates a data volume whose user uploads its file, and returns how to send it.",
                UploadParamsAnswer, OBJECT, parameters=_UPLOADED, related=("listVolumes", "attachVolume"),
                deadline_s=UPLOAD_DEADLINE_S, wrapper="postuploadvolumeresponse",
            ),
            Command(
                "renewUploadParamsForVolume", self._renew,
                "Returns new parameters for the upload of a volume: it goes on, or begins anew.",
                UploadParamsAnswer, OBJECT, parameters=(required("id", UUID, "the volume"),),
                related=("getUploadParamsForVolume", "listVolumes"), deadline_s=UPLOAD_DEADLINE_S,
            ),
        )  # fmt: skip

    async def _register(self, call: ApiCall) -> StartedJob:
        registration, owner, zone = await self._wanted(call)
        volume = await self._uploads.register(registration, owner, zone, call.request_id)
        return await start_job(
            self._jobs, call, "uploadVolume", {"id": volume.id},
            about="Volume", uuid=volume.uuid, creates=True,
        )  # fmt: skip

    async def _run_register(self, running: RunningJob) -> dict[str, Any]:
        """Answer at once, as CloudStack does: listVolumes shows when the file is there."""
        volume = await self._database.read(volumes.by_id, running.job.arguments["id"])
        return {"volume": plain(await self._database.read(answer_for, volume))}

    async def _receive(self, call: ApiCall) -> UploadParamsAnswer:
        registration, owner, zone = await self._wanted(call)
        return answer_with(await self._uploads.receive(registration, owner, zone, call.request_id))

    async def _renew(self, call: ApiCall) -> UploadParamsAnswer:
        volume = await self._database.read(own_volume, call.arguments["id"], call.principal)
        return answer_with(await self._uploads.renew(volume.id, call.request_id))

    async def _wanted(self, call: ApiCall) -> tuple[Registration, Owner, Zone]:
        zone = await self._database.read(named_or_only_zone, call.arguments.text("zoneid"))
        owner = await self._database.read(owner_of, call)
        registration = _registration(call, zone)
        return registration, Owner(owner.id, owner.domain_id, call.principal.user.id), zone


def _registration(call: ApiCall, zone: Zone) -> Registration:
    arguments = call.arguments
    if arguments["format"].upper() == ImageFormat.ISO.value:
        raise parameter_error("format", "ISO is not a format of volumes", "call registerIso")
    try:
        return Registration.of(
            format_name=arguments["format"],
            checksum_text=arguments.text("checksum"),
            arch_name=zone.arch or "amd64",
            name=arguments["name"],
            url=arguments.get("url"),
        )
    except RegistrationError as error:
        raise parameter_error(
            error.parameter, f"Invalid value for parameter {error.parameter}: {error.message}"
        ) from None
