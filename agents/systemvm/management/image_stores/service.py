# SPDX-License-Identifier: Apache-2.0
"""Adds, changes and deletes image stores."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

from attrs import evolve, frozen
from twisted.logger import Logger

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.image_stores.bucket_change import BucketChange, BucketChanger
from systemvm.management.image_stores.buckets import BucketDefinition, StoreKeys
from systemvm.management.image_stores.capacity import record_usage
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.image_stores.every_ssvm import EverySsvm
from systemvm.management.image_stores.server_name import Address, Resolve, choose, is_host_name, resolve
from systemvm.management.state import events, snapshots, store_buckets, store_contents, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.zones import FROM_FILE, ImageStore, Zone
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.rpc.core.errors import RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.mount_options import parse_mount_options
from systemvm.wire.storage import NFS_VERSIONS, STORAGE_RELEASE, STORAGE_SETUP, StoreStats

MAX_NAME_LENGTH = 255
#: The maximum number of templates that an error names.
MAX_NAMES = 10


class StoreInUseError(SystemVmError):
    """A store that holds the only copy of something, or is to get one; the message is CloudStack's."""

    code = FailureCode.IN_USE


class StoreFileSettings(StoreSettings, Protocol):
    """What a zone's file says of its stores."""

    def file_decides_read_only(self, zone_name: str, store_name: str) -> bool: ...


@frozen
class StoreDefinition:
    """A store as an administrator describes it.

    Raises: StoreDefinitionError when a value is invalid.
    """

    name: str
    url: str
    nfs_version: str = "4.2"
    mount_options: str = ""
    host_path: str | None = None
    is_staging: bool = False  # for copies that hosts read, and for nothing else
    bucket: BucketDefinition | None = None  # instead of an export; the URL is the bucket's then

    def __attrs_post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MAX_NAME_LENGTH:
            raise StoreDefinitionError(
                f"name must have 1 to {MAX_NAME_LENGTH} characters: {self.name[:80]!r}",
                parameter="name",
            )
        if self.bucket is None:
            self._check_export()

    def _check_export(self) -> None:
        try:
            parts = urlsplit(self.url)
            if self.server_name is None:
                ip_address(parts.hostname or "")
            if (
                parts.scheme != "nfs"
                or not parts.path.strip("/")
                or parts.query
                or parts.username
                or parts.port
            ):
                raise ValueError
        except ValueError:
            raise StoreDefinitionError(
                f"URL of image store {self.name} is not nfs://SERVER/PATH: {self.url[:200]}",
                "name the server by its address or its name",
                parameter="url",
            ) from None
        if self.nfs_version not in NFS_VERSIONS:
            raise StoreDefinitionError(
                f"unknown NFS version: {self.nfs_version[:8]!r}",
                f"use one of {', '.join(NFS_VERSIONS)}",
                parameter="details[0].nfs.version",
            )
        if self.host_path is not None and not self.host_path.startswith("/"):
            raise StoreDefinitionError(
                f"host_path is not an absolute path: {self.host_path[:200]}", parameter="details[0].host.path"
            )
        try:
            parse_mount_options(self.mount_options)
        except ValueError as error:
            raise StoreDefinitionError(str(error), parameter="details[0].nfsmountopts") from None

    @property
    def server_name(self) -> str | None:
        """The name of the server; None when the URL has its address, or is that of a bucket."""
        if self.bucket is not None:
            return None
        host = urlsplit(self.url).hostname or ""
        return host if is_host_name(host) else None

    def at(self, address: Address) -> StoreDefinition:
        """Return the store with its server's address."""
        host = f"[{address}]" if address.version == 6 else str(address)
        return evolve(self, url=urlsplit(self.url)._replace(netloc=host).geturl())


class ImageStores:
    """Changes the rows of stores, and has SSVMs mount or release them; `on_change()` follows each change."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        agents: ConnectedAgents,
        settings: StoreFileSettings,
        on_change: Callable[[], None],
        keys: StoreKeys,
        resolve: Resolve = resolve,
    ) -> None:
        self._database = database
        self._resolve = resolve
        self._settings = settings
        self._on_change = on_change
        self._keys = keys
        self._ssvms = EverySsvm(database, agents)
        self._buckets = BucketChanger(database, keys, self._ssvms)

    def settings_of(self, zone: Zone) -> SecondaryStorageConfig:
        """Return what holds for all stores of a zone."""
        return self._settings.secondary_storage(zone.name)

    async def add(self, zone_id: int, definition: StoreDefinition) -> ImageStore:
        """Add a store to a zone. The SSVMs that are Up mount it first; without one it is mounted later.

        Raises: StoreDefinitionError for a store that the cloud has, or whose server's name has not one
            address; RpcError when an SSVM cannot mount it.
        """
        name = definition.server_name
        if name is not None:
            definition = definition.at(await self._address_of(name))
        zone = await self._database.read(zones.zone_by_id, zone_id)
        threshold = self._settings.secondary_storage(zone.name).notification_threshold
        store = await self._database.run(_add, zone_id, definition, self._keys)
        try:
            complete = await self._database.read(self._keys.complete, store)
            for stats in await self._ssvms.call(store, STORAGE_SETUP, complete, StoreStats):
                store = await self._database.run(record_usage, store.id, stats, threshold)
        except RpcError:
            await self._database.run(_forget, store.id)
            raise
        what = "is added" if name is None else f"is added; {name} is {store.wire.server}"
        await self._database.run(_record, store, "IMAGE.STORE.ADD", what)
        self._on_change()
        return store

    async def _address_of(self, name: str) -> Address:
        try:
            return choose(await self._resolve(name))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise StoreDefinitionError(
                f"NFS server {name} cannot be used: {why}",
                "name the server by its address",
                parameter="url",
            ) from None

    async def update(
        self,
        store_id: int,
        *,
        name: str | None = None,
        read_only: bool | None = None,
        bucket: BucketChange | None = None,
    ) -> ImageStore:
        """Rename a store, make it read-only or writable, give its bucket other keys or settings.

        Raises: StoreDefinitionError when the zone's file decides that, and what BucketChanger raises.
        """
        store = await self._database.read(zones.store_by_id, store_id)
        zone = await self._database.read(zones.zone_by_id, store.zone_id)
        if read_only is not None and self._settings.file_decides_read_only(zone.name, store.name):
            raise StoreDefinitionError(
                f"read_only of image store {store.name} is set in the file of zone {zone.name}",
                "change it there, or remove the line and restart the daemon",
                parameter="readonly",
            )
        if bucket is not None:
            await self._change_bucket(store, zone, bucket)
        changed = await self._database.run(_update, store_id, name, read_only)
        if changed.read_only != store.read_only:
            try:
                complete = await self._database.read(self._keys.complete, changed)
                await self._ssvms.call(changed, STORAGE_SETUP, complete, StoreStats)
            except RpcError as error:  # mounted as it was: the daemon sends it no changes all the same
                self._log.info("{store} is not remounted yet: {error}", store=changed.name, error=error)
            text = "is read-only" if changed.read_only else "is writable"
            await self._database.run(_record, changed, "UPDATE.IMAGE.STORE.ACCESS.STATE", text)
        self._on_change()
        return changed

    async def _change_bucket(self, store: ImageStore, zone: Zone, change: BucketChange) -> None:
        await self._buckets.change(store, change)
        threshold = self._settings.secondary_storage(zone.name).notification_threshold
        await self._database.run(record_usage, store.id, StoreStats(0, 0), threshold)
        text = "has other keys" if change.has_keys else "has other settings of its bucket"
        await self._database.run(_record, store, "IMAGE.STORE.UPDATE", text)

    async def delete(self, store_id: int) -> None:
        """Remove a store from the cloud; its files stay.

        Raises: StoreInUseError while it holds the only copy of something, StoreDefinitionError while the
            zone's file names it.
        """
        store = await self._database.run(_delete, store_id)
        try:
            await self._ssvms.call(store, STORAGE_RELEASE, store.wire, None)
        except RpcError as error:  # an older agent, or one that still reads a file: its next start forgets it
            self._log.info("{store} is not released yet: {error}", store=store.name, error=error)
        self._on_change()


def _add(connection: Connection, zone_id: int, definition: StoreDefinition, keys: StoreKeys) -> ImageStore:
    for other in zones.list_stores(connection):
        if other.url.rstrip("/") == definition.url.rstrip("/"):
            raise StoreDefinitionError(
                f"There is already an image store with this URL: {other.name}", parameter="url"
            )
        if other.zone_id == zone_id and other.name == definition.name:
            raise StoreDefinitionError(
                f"There is already an image store with this name: {other.name}", parameter="name"
            )
    if definition.bucket is not None:
        store = zones.add_store(
            connection, name=definition.name, zone_id=zone_id, url=definition.url, provider=zones.S3
        )
        keys.keep(connection, store.id, definition.bucket)
        return store
    return zones.add_store(
        connection,
        name=definition.name,
        zone_id=zone_id,
        url=definition.url.rstrip("/"),
        host_path=definition.host_path,
        nfs_version=definition.nfs_version,
        mount_options=definition.mount_options,
        role=zones.IMAGE_CACHE if definition.is_staging else zones.IMAGE,
    )


def _forget(connection: Connection, store_id: int) -> None:
    store_buckets.forget(connection, store_id)
    zones.remove_store(connection, store_id)


def _update(connection: Connection, store_id: int, name: str | None, read_only: bool | None) -> ImageStore:
    store = zones.store_by_id(connection, store_id)
    changes: dict[str, Any] = {}
    if name is not None and name != store.name:
        if store.origin == FROM_FILE:
            raise StoreDefinitionError(
                f"name of image store {store.name} is that of the zone's file",
                "rename it there",
                parameter="name",
            )
        if any(other.name == name for other in zones.list_stores(connection, store.zone_id)):
            raise StoreDefinitionError(
                f"There is already an image store with this name: {name}", parameter="name"
            )
        if not name.strip() or len(name) > MAX_NAME_LENGTH:
            raise StoreDefinitionError(
                f"name must have 1 to {MAX_NAME_LENGTH} characters: {name[:80]!r}", parameter="name"
            )
        changes["name"] = name
    if read_only is not None:
        changes["read_only"] = read_only
    return zones.update_store(connection, store_id, **changes) if changes else store


def _delete(connection: Connection, store_id: int) -> ImageStore:
    store = zones.store_by_id(connection, store_id)
    if store.origin == FROM_FILE:
        raise StoreDefinitionError(
            f"image store {store.name} is named in the zone's file",
            "remove it from image_stores there and restart the daemon, then delete it",
            parameter="id",
        )
    retire = f'run "systemvm store retire {store.name}", which moves them to other stores'
    if store.is_staging:
        retire = "wait until they are Ready on an image store"
    if only := store_contents.only_copies(connection, store_id):
        raise StoreInUseError(
            f"Cannot delete image store with active templates/snapshots backup! It has the only copy of "
            f"{_names(only)}",
            retire,
        )
    if pending := store_contents.unfinished(connection, store_id):
        raise StoreInUseError(f"image store {store.name} still gets {_names(pending)}", retire)
    if count := snapshots.on_store(connection, store_id):
        raise StoreInUseError(
            f"Cannot delete image store with active templates/snapshots backup! It has {count} snapshots of"
            " volumes",
            "delete them first with deleteSnapshot",
        )
    store_contents.forget_copies(connection, store_id)
    _forget(connection, store_id)
    snapshots.forget_removed_stores(connection)  # else an SSVM would mount it again to delete their files
    _record(connection, store, "IMAGE.STORE.DELETE", "is deleted")
    return store


def _names(contents: list[store_contents.Content]) -> str:
    names = [template.name for _, template in contents[:MAX_NAMES]]
    return ", ".join(names) + (", …" if len(contents) > MAX_NAMES else "")


def _record(connection: Connection, store: ImageStore, kind: str, text: str) -> None:
    events.record(
        connection,
        kind,
        f"Image store {store.name} {text}",
        resource_type="ImageStore",
        resource_uuid=store.uuid,
        zone_id=store.zone_id,
    )
