# SPDX-License-Identifier: Apache-2.0
"""Volumes whose content comes from their users: by a URL, or by an upload to an SSVM.

The file is an image on secondary storage like that of a template, and is inspected like one, but no list
of templates has it. The first VM that gets the volume has it copied to primary storage; then the image is
deleted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from attrs import evolve

from systemvm.management.primary.pools import StorageByPool
from systemvm.management.resource_limits import limits
from systemvm.management.state import instances, templates, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import VolumeState
from systemvm.management.state.templates import VOLUME, Template
from systemvm.management.state.volumes import Volume
from systemvm.management.state.zones import Zone
from systemvm.management.templates.registration import Registration
from systemvm.management.templates.service import Owner, TemplateService
from systemvm.management.templates.uploads import TemplateUploads, UploadError, UploadParameters
from systemvm.management.volumes import transitions
from systemvm.management.volumes.errors import VolumeStateError
from systemvm.management.volumes.service import Volumes, VolumeStorage
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.storage import DownloadState


class Cloner(Protocol):
    """Makes disks from images on secondary storage."""

    async def clone_template(self, template_id: int, volume_uuid: str, pool_id: int | None) -> Path: ...


class VolumeUploads:
    """Creates such volumes, notes when their files are there, and makes disks of them."""

    def __init__(
        self,
        database: Database,
        templates: TemplateService,
        uploads: TemplateUploads,
        volumes: Volumes,
        primary: StorageByPool[VolumeStorage],
        cloner: Cloner,
        *,
        host_id: int,
    ) -> None:
        self._database = database
        self._templates = templates
        self._uploads = uploads
        self._volumes = volumes
        self._primary = primary
        self._cloner = cloner
        self._host_id = host_id
        self._tending = SingleFlight[int]()
        self._is_stale = False

    async def register(self, registration: Registration, owner: Owner, zone: Zone, request_id: str) -> Volume:
        """Create a volume whose file an SSVM downloads.

        Raises: NoStoreError when no store takes it, VolumeStateError when its owner must not own more.
        """

        def create(connection: Connection) -> Volume:
            template = self._templates.create_in(
                connection, _image(registration), owner, zone.id, request_id, lambda store: True
            )
            return self._create(connection, template, owner)

        return await self._templates.choosing(create)

    async def receive(
        self, registration: Registration, owner: Owner, zone: Zone, request_id: str
    ) -> UploadParameters:
        """Create a volume whose file its user sends to an SSVM; return how, with the id of the volume.

        Raises: UploadError when no SSVM can receive it, NoStoreError when no store takes it,
        UploadLimitError when its owner has too many unfinished uploads.
        """
        made: list[Volume] = []

        def create(connection: Connection, template: Template) -> None:
            made[:] = [self._create(connection, template, owner)]

        try:
            parameters = await self._uploads.create(_image(registration), owner, zone, request_id, create)
        except UploadError:  # nobody knows the volume yet
            for volume in made:
                await self._database.run(volumes.remove, volume.id)
            raise
        [volume] = made
        return evolve(parameters, template_uuid=volume.uuid)

    async def renew(self, volume_id: int, request_id: str) -> UploadParameters:
        """Return new parameters of an upload: it goes on, or begins anew when it has failed.

        Raises: VolumeStateError when there is nothing to upload, UploadError when no SSVM can receive it.
        """
        await self.note()
        volume = await self._database.read(volumes.by_id, volume_id)
        if volume.removed is not None or volume.template_id is None or not volume.state.awaits_file:
            raise VolumeStateError(
                f"id: volume {volume.name} waits for no file",
                "upload another file under a new name",
                parameter="id",
            )
        parameters = await self._uploads.renew(volume.template_id, request_id)
        await self._database.run(volumes.update, volume.id, state=VolumeState.NOT_UPLOADED)
        return evolve(parameters, template_uuid=volume.uuid)

    def changed(self) -> None:
        """Note which files have come or failed, and delete those that no volume waits for."""
        self._is_stale = True
        self._tending.start(0, self._tend)

    async def _tend(self) -> None:
        while self._is_stale:
            self._is_stale = False
            await self.note()
            await self.forget_images()

    async def note(self) -> None:
        """Bring the states of volumes up to date with their files."""
        await self._database.run(_note)

    async def bring(self, volume_id: int, vm_id: int) -> None:
        """Make the disk of a volume that was uploaded, for this VM; does nothing for another volume.

        Raises: VolumeStateError, VolumeRequestError when the VM cannot have it, ResourceLimitError when its
        owner has too much primary storage.
        """
        await self.note()
        async with self._volumes.lock(volume_id) as volume:
            if volume.template_id is None or volume.state is not VolumeState.UPLOADED:
                return
            transitions.check_fits(volume, await self._database.read(instances.by_id, vm_id))
            await self._database.read(_check_size, volume)
            path = await self._cloner.clone_template(volume.template_id, volume.uuid, volume.pool_id)
            storage = await self._primary.of(volume.pool_id)
            size_bytes = await storage.volume_size_bytes(volume.uuid)
            await self._database.run(_set_brought, volume.id, path, size_bytes)
        await self.forget_images()

    async def forget_images(self) -> None:
        """Delete the images that no volume waits for: it has its disk, or was deleted."""
        for template_id in await self._database.read(volumes.images_without_use):
            await self._templates.delete(template_id)

    def _create(self, connection: Connection, template: Template, owner: Owner) -> Volume:
        new = transitions.NewVolume(
            name=template.name,
            size_bytes=0,
            account_id=owner.account_id,
            domain_id=owner.domain_id,
            user_id=owner.user_id or 0,
            zone_id=template.zone_id or 0,
            host_id=self._host_id,
        )
        volume = transitions.create(connection, new)
        state = VolumeState.NOT_UPLOADED
        return volumes.update(connection, volume.id, state=state, template_id=template.id, size_bytes=None)


def _image(registration: Registration) -> Registration:
    # its owner has its content already
    return evolve(registration, type=VOLUME, extractable=True, public=False, featured=False)


def _check_size(connection: Connection, volume: Volume) -> None:
    """Check the limit again, with the size that the file has: it was not known before."""
    limits.check(connection, volume.account_id, {ResourceType.primary_storage: 0})


def _set_brought(connection: Connection, volume_id: int, path: Path, size_bytes: int) -> None:
    volumes.update(connection, volume_id, size_bytes=size_bytes)
    transitions.set_ready(connection, volume_id, str(path))


def _note(connection: Connection) -> None:
    for volume in volumes.being_uploaded(connection):
        ref = templates.store_ref_of(connection, volume.template_id or 0)
        if ref is None or ref.state is DownloadState.DOWNLOAD_ERROR:
            volumes.update(connection, volume.id, state=VolumeState.UPLOAD_ERROR)
            why = "its file was deleted" if ref is None else ref.error_text
            transitions.record(connection, volume, "VOLUME.UPLOAD", f"failed to upload: {why}")
        elif ref.is_ready:
            volumes.update(
                connection, volume.id, state=VolumeState.UPLOADED, size_bytes=ref.virtual_size_bytes
            )
            transitions.record(connection, volume, "VOLUME.UPLOAD", "is Uploaded")
