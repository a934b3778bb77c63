# SPDX-License-Identifier: Apache-2.0
"""Copies of templates in further zones, and their removal from one of several zones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from systemvm.management.image_stores.placement import place_for
from systemvm.management.jobs.runner import RunningJob
from systemvm.management.state import events, replicas, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates import downloads
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import DownloadState

POLL_INTERVAL_S = 2.0


class ZoneCopyError(SystemVmError):
    """A copy in another zone that cannot be made."""

    code = FailureCode.UNAVAILABLE


class ZoneCopies:
    """Orders copies as rows; `wake()` has the dispatcher assign them."""

    def __init__(
        self, clock: IReactorTime, database: Database, settings: StoreSettings, wake: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._database = database
        self._settings = settings
        self._wake = wake

    async def run(self, running: RunningJob, template_id: int, zone_ids: Sequence[int]) -> Template:
        """Copy a template for a job; see `copy`."""
        job = running.job
        return await self.copy(template_id, zone_ids, job.user_id, job.request_id, running.progress)

    async def copy(
        self,
        template_id: int,
        zone_ids: Sequence[int],
        user_id: int | None,
        request_id: str,
        report: Callable[[int, str], None],
        accepts: Callable[[ImageStore], bool] = lambda store: True,
    ) -> Template:
        """Copy a template to zones and return when it is Ready in all of them; it can be repeated.

        `accepts` returns whether it can be on a store.
        Raises: ZoneCopyError with the reason of the first that failed, NoStoreError when no store takes it.
        """
        for zone_id in zone_ids:
            await self._database.run(
                _order, template_id, zone_id, self._settings, user_id, request_id, accepts
            )
        self._wake()
        while True:
            template, copies = await self._database.read(_copies, template_id, zone_ids)
            percent = sum(100 if ref.is_ready else ref.percent for ref in copies) // max(1, len(copies))
            waiting = next((ref.error_hint for ref in copies if not ref.is_ready and ref.error_hint), None)
            report(percent, waiting or f"{percent}% of {template.name} is copied")
            for ref in copies:
                if ref.state is DownloadState.DOWNLOAD_ERROR:
                    raise ZoneCopyError(ref.error_text or "the copy failed", ref.error_hint or "")
            if all(ref.is_ready for ref in copies):
                return template
            await deferLater(self._clock, POLL_INTERVAL_S)


def _order(
    connection: Connection,
    template_id: int,
    zone_id: int,
    settings: StoreSettings,
    user_id: int | None,
    request_id: str,
    accepts: Callable[[ImageStore], bool],
) -> StoreRef:
    copies = replicas.copies_in_zone(connection, template_id, zone_id)
    for ref in copies:
        if ref.state is not DownloadState.DOWNLOAD_ERROR:
            return ref
    if copies:
        return downloads.begin_anew(connection, copies[0].id)
    zone, template = zones.zone_by_id(connection, zone_id), templates.by_id(connection, template_id)
    source = templates.store_ref_of(connection, template_id)
    size_bytes = (source.physical_size_bytes if source else None) or 0
    threshold = settings.secondary_storage(zone.name).capacity_threshold
    stores = [each for each in zones.list_image_stores(connection, zone_id) if accepts(each)]
    store = place_for(connection, stores, threshold, size_bytes)
    ref = templates.add_store_ref(connection, template_id, store.id, request_id)
    if template.is_hidden:
        return ref
    events.record(
        connection,
        "ISO.COPY" if template.is_iso else "TEMPLATE.COPY",
        f"{template.name} is copied to zone {zone.name}",
        account_id=template.account_id,
        domain_id=template.domain_id,
        user_id=user_id,
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
        request_id=request_id,
    )
    return ref


def _copies(
    connection: Connection, template_id: int, zone_ids: Sequence[int]
) -> tuple[Template, list[StoreRef]]:
    """Return the template and its best copy in each zone.

    Raises: ZoneCopyError when it is deleted meanwhile.
    """
    template, found = templates.by_id(connection, template_id), []
    for zone_id in zone_ids:
        ref = templates.store_ref_of(connection, template_id, zone_id)
        if template.removed is not None or ref is None:
            raise ZoneCopyError(f"{template.name} was deleted while it was copied")
        found.append(ref)
    return template, found
