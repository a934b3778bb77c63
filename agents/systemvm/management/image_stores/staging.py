# SPDX-License-Identifier: Apache-2.0
"""Copies of templates of buckets on a mounted store, for what can only read files: hosts, and serve.

CloudStack's NFS staging store (reference 2.17). Any NFS store of the zone takes them; a copy is verified by
the SSVM that makes it, stays, and is used again.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from systemvm.management.image_stores.replicas import order_copy
from systemvm.management.state import replicas, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.templates import downloads
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import DownloadState

POLL_INTERVAL_S = 2.0


class StagingError(SystemVmError):
    """A template that cannot be copied to a mounted store."""

    code = FailureCode.UNAVAILABLE


class Wake(Protocol):
    """Has the dispatcher assign new copies to SSVMs."""

    def __call__(self) -> None: ...


class Staging:
    """Orders a copy as a row, like a replica, and waits for it."""

    def __init__(self, clock: IReactorTime, database: Database, settings: StoreSettings, wake: Wake) -> None:
        self._clock = clock
        self._database = database
        self._settings = settings
        self._wake = wake

    async def ensure(self, template_id: int, zone_id: int, *, for_host: bool) -> None:
        """Return when a Ready copy is on a mounted store of the zone, for a host on one that it can read.

        It can be repeated, and begins a copy that has failed before anew.

        Raises: StagingError when there is no such store, or the copy fails.
        """
        if await self._database.run(_is_staged, template_id, zone_id, self._settings, for_host, True):
            return
        self._wake()
        while True:
            await deferLater(self._clock, POLL_INTERVAL_S)
            if await self._database.run(_is_staged, template_id, zone_id, self._settings, for_host, False):
                return


def _is_staged(
    connection: Connection,
    template_id: int,
    zone_id: int,
    settings: StoreSettings,
    for_host: bool,
    begin: bool,
) -> bool:
    """Return whether the copy is there; order it when there is none.

    Raises: StagingError when it has failed, unless it is begun anew.
    """
    template, zone = templates.by_id(connection, template_id), zones.zone_by_id(connection, zone_id)
    stores = {
        store.id: store
        for store in zones.list_stores(connection, zone_id)
        if not store.is_bucket and (store.host_path is not None or not for_host)
    }
    copies = replicas.copies_in_zone(connection, template_id, zone_id)
    found = [ref for ref in copies if ref.store_id in stores]
    if any(ref.is_ready for ref in found):
        return True
    failed = next((ref for ref in found if ref.state is DownloadState.DOWNLOAD_ERROR), None)
    if template.removed is not None or not any(ref.is_ready for ref in copies):
        raise StagingError(f"{template.name} is no longer ready in zone {zone.name}")
    if failed is not None and begin:
        downloads.begin_anew(connection, failed.id)
    elif failed is not None and len(found) == 1:
        text = failed.error_text or "the copy failed"
        raise StagingError(
            f"{template.name} cannot be copied to a mounted store: {text}", failed.error_hint or ""
        )
    elif not found:
        threshold = settings.secondary_storage(zone.name).capacity_threshold
        if order_copy(connection, template_id, copies, list(stores.values()), threshold) is None:
            where = "that this host can read " if for_host else ""
            raise StagingError(
                f"{template.name} is in a bucket, and no NFS store {where}takes a copy of it",
                "add an NFS store to the zone with addImageStore, or free space on one",
            )
    return False
