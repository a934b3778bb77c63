# SPDX-License-Identifier: Apache-2.0
"""Copies of templates of buckets on a mounted store, for what can only read files: hosts, and serve.

A staging store (CloudStack's, reference 2.17) takes them first, and without one any NFS store of the zone. A
copy is verified by the SSVM that makes it, stays, and is used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from systemvm.management.image_stores import staging_eviction
from systemvm.management.image_stores.replicas import order_copy
from systemvm.management.state import replicas, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore, Zone
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
    ready = next((ref for ref in found if ref.is_ready), None)
    if ready is not None:
        staging_eviction.note_use(connection, ready.id)
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
        _order(connection, template, zone, list(stores.values()), copies, settings, for_host)
    return False


def _order(
    connection: Connection,
    template: Template,
    zone: Zone,
    stores: Sequence[ImageStore],
    copies: Sequence[StoreRef],
    settings: StoreSettings,
    for_host: bool,
) -> None:
    """Order a copy on a staging store, else on another one; without room make some on staging stores.

    Raises: StagingError when there is none, and none can be made.
    """
    threshold = settings.secondary_storage(zone.name).capacity_threshold
    staging = [store for store in stores if store.is_staging]
    others = [store for store in stores if not store.is_staging]
    for each in (staging, others):
        if each and order_copy(connection, template.id, copies, each, threshold) is not None:
            return
    size_bytes = max((ref.physical_size_bytes or 0 for ref in copies), default=0)
    if staging and staging_eviction.evict(connection, staging, zone.id, size_bytes):
        return  # the next poll orders it
    where = "that this host can read " if for_host else ""
    raise StagingError(
        f"{template.name} is in a bucket, and no NFS store {where}takes a copy of it",
        "add one to the zone with createSecondaryStagingStore, or free space on one",
    )
