# SPDX-License-Identifier: Apache-2.0
"""Images that SSVMs make from snapshots: templates for users, and exports, which links lead to.

An image of a volume is made from a snapshot that is taken for it and deleted afterwards. All steps can be
repeated after a restart of the daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from systemvm.management.resource_limits import limits
from systemvm.management.snapshots import transitions
from systemvm.management.snapshots.errors import SnapshotError
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import snapshot_images, snapshots, templates, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.templates import COPY, EXPORT, StoreRef, Template
from systemvm.management.templates.extraction import CreatedLink, Extraction
from systemvm.management.templates.registration import Registration
from systemvm.management.templates.service import Owner, TemplateService
from systemvm.service.periodic import Periodic
from systemvm.wire.storage import DownloadState, ImageFormat

POLL_INTERVAL_S = 2.0
ROUND_S = 600.0
#: An export without a link is kept so long: its job creates one when it is Ready.
UNUSED_AFTER = timedelta(hours=1)

Report = Callable[[int, str], None]


class SnapshotImages:
    """Makes images; the dispatcher of downloads has SSVMs do it."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        snapshots: VolumeSnapshots,
        templates: TemplateService,
        extraction: Extraction,
    ) -> None:
        self._clock = clock
        self._database = database
        self._snapshots = snapshots
        self._templates = templates
        self._extraction = extraction
        self._tending = Periodic(clock, self.tend, ROUND_S, what="delete exports of snapshots")

    def start(self) -> None:
        self._tending.start(now=False)

    def stop(self) -> None:
        self._tending.stop()

    async def create_template(
        self, snapshot_id: int, registration: Registration, user_id: int | None, request_id: str
    ) -> Template:
        """Create a template that an SSVM makes from a snapshot; `ready` waits for it.

        Raises: SnapshotStateError when the snapshot cannot be read, NoStoreError when no store takes it,
        ResourceLimitError when its account has too many templates.
        """

        def create(connection: Connection) -> Template:
            snapshot = snapshots.by_id(connection, snapshot_id)
            transitions.check_stored(snapshot)
            limits.check(connection, snapshot.account_id, {ResourceType.template: 1})
            owner = Owner(snapshot.account_id, snapshot.domain_id, user_id)
            return self._create(connection, snapshot, registration, owner, request_id)

        return await self._templates.choosing(create)

    async def template_of_volume(
        self,
        snapshot_id: int,
        registration: Registration,
        user_id: int | None,
        request_id: str,
        report: Report,
    ) -> Template:
        """Take the snapshot that was created of a volume, and return the Ready template made of it."""
        template = await self._database.read(snapshot_images.made_from, snapshot_id)
        if template is None:
            await self._snapshots.take(snapshot_id, lambda percent, text: report(percent // 2, text))
            template = await self.create_template(snapshot_id, registration, user_id, request_id)
        try:
            return await self.ready(template.id, lambda percent, text: report(50 + percent // 2, text))
        finally:
            await self._forget(snapshot_id)

    async def ready(self, template_id: int, report: Report) -> Template:
        """Return when the image is Ready.

        Raises: SnapshotError with the reason when it cannot be made, or is deleted meanwhile.
        """
        while True:
            template, ref = await self._database.read(_progress, template_id)
            if template.removed is not None or ref is None:
                raise SnapshotError(f"{template.name} was deleted while it was made")
            if ref.state is DownloadState.DOWNLOAD_ERROR:
                raise SnapshotError(ref.error_text or "the image was not made", ref.error_hint or "")
            if ref.is_ready:
                return template
            report(ref.percent, ref.error_hint or f"{ref.percent}% of the image is made")
            await deferLater(self._clock, POLL_INTERVAL_S, lambda: None)

    async def link(self, snapshot_id: int, request_id: str, report: Report) -> CreatedLink:
        """Return a link to a snapshot as one image; a valid one is used again.

        Raises: SnapshotError when the image cannot be made, ExtractionError when no SSVM serves it.
        """

        def export(connection: Connection) -> Template:
            return self._hidden(connection, snapshot_id, EXPORT, request_id)

        template = await self._templates.choosing(export)
        await self.ready(template.id, report)
        snapshot = await self._database.read(snapshots.by_id, snapshot_id)
        return await self._extraction.create(template.id, snapshot.zone_id, request_id)

    async def link_to_volume(self, snapshot_id: int, request_id: str, report: Report) -> CreatedLink:
        """Take the snapshot that was created of a volume, and return a link to it."""
        await self._snapshots.take(snapshot_id, lambda percent, text: report(percent // 2, text))
        try:
            return await self.link(
                snapshot_id, request_id, lambda percent, text: report(50 + percent // 2, text)
            )
        finally:
            await self._forget(snapshot_id)

    async def snapshot_of_volume(self, volume_id: int, kind: str, user_id: int | None) -> Snapshot:
        """Create the row of a snapshot that is deleted when its image is made.

        Raises: ResourceLimitError when the image is a template that its account has no room for.
        """
        volume = await self._database.read(volumes.by_id, volume_id)
        if kind == snapshots.FOR_TEMPLATE:  # `create_template` repeats it, when the snapshot is taken
            await self._database.read(limits.check, volume.account_id, {ResourceType.template: 1})
        return await self._snapshots.create(NewSnapshot(volume_id, volume.name, user_id, kind))

    async def for_copies(self, snapshot_id: int, request_id: str) -> Template:
        """Return the image by which a snapshot comes to other zones; `ready` waits for it.

        Raises: SnapshotStateError when the snapshot cannot be read, NoStoreError when no store takes it.
        """
        return await self._templates.choosing(
            lambda connection: self._hidden(connection, snapshot_id, COPY, request_id)
        )

    async def forget_copied(self) -> None:
        """Delete the images of snapshots that are in all zones they were copied to."""
        for template_id in await self._database.read(snapshot_images.copied):
            await self._templates.delete(template_id)

    async def tend(self) -> None:
        """Delete exports to which no link works any more, and snapshots that a job has left."""
        for template_id in await self._database.read(snapshot_images.unused_exports, now() - UNUSED_AFTER):
            await self._templates.delete(template_id)
        await self.forget_copied()
        for snapshot_id in await self._database.read(snapshot_images.used_snapshots, now() - UNUSED_AFTER):
            await self._forget(snapshot_id)

    def _hidden(
        self, connection: Connection, snapshot_id: int, hidden_type: str, request_id: str
    ) -> Template:
        """Return the image of this type that was made from a snapshot; create it when there is none."""
        known = snapshot_images.made_from(connection, snapshot_id, hidden_type)
        ref = None if known is None else templates.store_ref_of(connection, known.id)
        if known is not None and ref is not None and ref.state is not DownloadState.DOWNLOAD_ERROR:
            return known
        snapshot = snapshots.by_id(connection, snapshot_id)
        transitions.check_stored(snapshot)
        owner = Owner(snapshot.account_id, snapshot.domain_id, None)
        image = Registration(name=snapshot.name, url=None, format=ImageFormat.QCOW2, type=hidden_type)
        return self._create(connection, snapshot, image, owner, request_id)

    def _create(
        self,
        connection: Connection,
        snapshot: Snapshot,
        registration: Registration,
        owner: Owner,
        request_id: str,
    ) -> Template:
        template = self._templates.create_in(
            connection, registration, owner, snapshot.zone_id, request_id, transitions.is_mounted
        )
        snapshot_images.add(connection, template.id, snapshot.id)
        return template

    async def _forget(self, snapshot_id: int) -> None:
        try:
            await self._snapshots.delete(snapshot_id)
        except SnapshotError as error:  # `tend` repeats it
            self._log.info("snapshot {id} is deleted later: {why}", id=snapshot_id, why=error.message)


def _progress(connection: Connection, template_id: int) -> tuple[Template, StoreRef | None]:
    return templates.by_id(connection, template_id), templates.store_ref_of(connection, template_id)
