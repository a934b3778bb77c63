# SPDX-License-Identifier: Apache-2.0
"""Temporary links to any file of an image store, for administrators."""

from __future__ import annotations

import uuid
from datetime import timedelta

from attrs import frozen

from systemvm.management.image_stores.inspection import NoSuchPathError, StoreInspection
from systemvm.management.state import events, store_buckets, store_object_links, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.store_object_links import ObjectLinkRow
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.extraction import (
    MAX_PRESIGNED_S,
    Extraction,
    ExtractionSettings,
)
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.extract import PresignRequest, link_file_name


class ObjectLinkError(SystemVmError):
    """A file of a store to which there can be no link."""

    code = FailureCode.INVALID


@frozen
class CreatedObjectLink:
    """A link as its user gets it."""

    row: ObjectLinkRow
    url: str


class ObjectLinks:
    """Makes the links; `extraction` has the SSVMs serve them."""

    def __init__(
        self,
        database: Database,
        inspection: StoreInspection,
        extraction: Extraction,
        settings: ExtractionSettings,
    ) -> None:
        self._database = database
        self._inspection = inspection
        self._extraction = extraction
        self._settings = settings

    async def create(self, store: ImageStore, path: str, request_id: str) -> CreatedObjectLink:
        """Return a link to the file at a path relative to the store.

        Raises: NoSuchPathError when there is none, ObjectLinkError for a directory or a bucket that users do
        not reach, ExtractionError when no SSVM can serve it.
        """
        wanted = path.strip("/")
        name = wanted.rpartition("/")[2]
        if not await self._is_file(store, wanted, name):
            raise ObjectLinkError(
                f"{wanted[:200] or '/'} is not a file of image store {store.name}",
                "name a file as listImageStoreObjects lists it",
                parameter="path",
            )
        zone = await self._database.read(zones.zone_by_id, store.zone_id)
        settings = self._settings.secondary_storage(zone.name)
        lifetime = timedelta(seconds=settings.extract_url_expiration_interval)
        stem, dot, extension = name.rpartition(".")
        shown = link_file_name(stem, extension) if dot and stem and extension.isalnum() else name_of(name)
        if store.is_bucket:
            return await self._presign(store, wanted, shown, lifetime, request_id)
        servers = await self._extraction.servers(zone)
        origin = servers[0].endpoint.url
        row = await self._database.run(_create, store, wanted, shown, origin, lifetime, request_id)
        link = store_object_links.wire_link(row, store)
        await self._extraction.serve(link, servers, origin)
        return CreatedObjectLink(row, origin + link.path)

    async def _is_file(self, store: ImageStore, path: str, name: str) -> bool:
        """Return whether a path is a file: that is its own only entry, as the file in a directory can be.

        Raises: NoSuchPathError when nothing is there.
        """
        if any(part.startswith(".") for part in path.split("/")):
            return False  # no SSVM opens a hidden file: it is not complete, or was put out of sight
        found = await self._inspection.browse(store, path)
        if not path or [each.name for each in found] != [name] or found[0].is_directory:
            return False
        try:
            await self._inspection.browse(store, f"{path}/{name}")
        except NoSuchPathError:
            return True
        return False

    async def _presign(
        self, store: ImageStore, path: str, shown: str, lifetime: timedelta, request_id: str
    ) -> CreatedObjectLink:
        bucket = await self._database.read(store_buckets.of_store, store.id)
        if bucket is None or not bucket.has_public_links:
            raise ObjectLinkError(
                f"users cannot reach the server of image store {store.name}",
                "set details[0].publiclinks=true by updateImageStore, if they can",
            )
        expires_s = int(min(lifetime.total_seconds(), MAX_PRESIGNED_S))
        order = PresignRequest(store.wire, None, expires_s, path)
        url = await self._extraction.presigned(store.zone_id, order)
        origin = store.url.rpartition("/")[0]
        life = timedelta(seconds=expires_s)
        row = await self._database.run(_create, store, path, shown, origin, life, request_id)
        return CreatedObjectLink(row, url)


def name_of(name: str) -> str:
    """Return a name without an extension as a part of a URL."""
    return link_file_name(name, "bin").removesuffix(".bin")


def _create(
    connection: Connection,
    store: ImageStore,
    path: str,
    shown: str,
    origin: str,
    lifetime: timedelta,
    request_id: str,
) -> ObjectLinkRow:
    row = store_object_links.create(
        connection,
        store_id=store.id,
        path=path,
        secret=str(uuid.uuid4()),
        origin=origin,
        file_name=shown,
        expires=now() + lifetime,
    )
    events.record(
        connection,
        "IMAGE.STORE.OBJECT.DOWNLOAD",
        f"{path[:200]} of {store.name} can be downloaded by a link until {row.expires:%Y-%m-%d %H:%M} UTC",
        zone_id=store.zone_id,
        resource_type="ImageStore",
        resource_uuid=store.uuid,
        request_id=request_id,
    )
    return row
