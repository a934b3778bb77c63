# SPDX-License-Identifier: Apache-2.0
"""The state transitions of snapshots in the database, each with its event. Functions over a connection."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.configurations.snapshots import of_zone as settings_of_zone
from systemvm.management.resource_limits import limits
from systemvm.management.snapshots.errors import SnapshotStateError
from systemvm.management.state import events, snapshot_images, snapshots, volumes, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import SnapshotState
from systemvm.management.state.templates import StoreRef
from systemvm.management.state.volumes import Volume
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.store_choice import NoStoreError, StoreSettings, choose_store
from systemvm.management.volumes.transitions import check_usable


@frozen
class NewSnapshot:
    """The request of a user; `volume_id` is of an existing row."""

    volume_id: int
    name: str | None
    user_id: int | None
    interval_type: str = "MANUAL"


def create(connection: Connection, new: NewSnapshot, settings: StoreSettings) -> Snapshot:
    """Create the row of a snapshot that is to be taken, on the emptiest store that holds snapshots.

    One that is deleted when its image is made does not count for its account's limit.

    Raises: VolumeStateError, NoStoreError, ResourceLimitError.
    """
    volume = volumes.by_id(connection, new.volume_id)
    check_usable(volume, "volumeid")
    if volume.zone_id is None or volume.host_id is None:
        raise SnapshotStateError(
            f"volumeid: volume {volume.name} is on no host", "start its VM once", parameter="volumeid"
        )
    store = _store_in(connection, volume.zone_id, settings)
    if new.interval_type not in snapshots.TEMPORARY:
        limits.check(connection, volume.account_id, {ResourceType.snapshot: 1})
    snapshot = snapshots.insert(
        connection,
        name=new.name or f"{volume.name}_{volume.id}",
        account_id=volume.account_id,
        domain_id=volume.domain_id,
        zone_id=volume.zone_id,
        host_id=volume.host_id,
        volume_id=volume.id,
        store_id=store.id,
        interval_type=new.interval_type,
        size_bytes=volume.size_bytes,
    )
    if new.name is None:
        name = f"{volume.name}_{snapshot.created:%Y%m%d%H%M%S}"
        snapshot = snapshots.update(connection, snapshot.id, name=name)
    record(connection, snapshot, "SNAPSHOT.CREATE", "is being taken", user_id=new.user_id)
    return snapshot


def create_copy(
    connection: Connection, snapshot_id: int, zone_id: int, user_id: int | None, settings: StoreSettings
) -> Snapshot:
    """Create the row of a snapshot's copy in another zone; return the one that is there already.

    Raises: SnapshotStateError when the snapshot cannot be read, NoStoreError.
    """
    source = snapshots.by_id(connection, snapshot_id)
    check_stored(source)
    for known in snapshots.copies_of(connection, source.id, zone_id):
        if known.state is not SnapshotState.ERROR:
            return known
        return snapshots.update(
            connection, known.id, state=SnapshotState.COPYING, error_text=None, error_hint=None
        )
    copy = snapshots.insert(
        connection,
        name=source.name,
        account_id=source.account_id,
        domain_id=source.domain_id,
        zone_id=zone_id,
        host_id=source.host_id,
        volume_id=source.volume_id,
        store_id=_store_in(connection, zone_id, settings).id,
        copy_of=source.id,
        interval_type=source.interval_type,
        state=SnapshotState.COPYING,
        size_bytes=source.size_bytes,
    )
    zone = zones.zone_by_id(connection, zone_id)
    record(connection, copy, "SNAPSHOT.COPY", f"is copied to zone {zone.name}", user_id=user_id)
    return copy


def place_copy(connection: Connection, copy: Snapshot, ref: StoreRef) -> Snapshot:
    """Record the store that the content of a copy has come to."""
    return snapshots.update(
        connection, copy.id, store_id=ref.store_id, physical_size_bytes=ref.physical_size_bytes
    )


def _store_in(connection: Connection, zone_id: int, settings: StoreSettings) -> ImageStore:
    zone = zones.zone_by_id(connection, zone_id)
    stores = [store for store in zones.list_image_stores(connection, zone.id) if is_suitable(store)]
    if not stores:
        raise NoStoreError(
            f"zone {zone.name} has no image store for snapshots of volumes",
            "add an NFS store with host_path, the directory where this host has it mounted",
        )
    return choose_store(stores, settings.secondary_storage(zone.name).capacity_threshold)


def is_suitable(store: ImageStore) -> bool:
    """Return whether snapshots can be on a store: SSVMs write them by NFS, and the host reads them."""
    return not store.is_bucket and store.host_path is not None and not store.is_staging


def is_mounted(store: ImageStore) -> bool:
    """Return whether images can be made from snapshots on a store: SSVMs write them by NFS."""
    return not store.is_bucket


def base_for(connection: Connection, snapshot: Snapshot, size_bytes: int) -> Snapshot | None:
    """Return the snapshot that a new one can be an increment on; None when it must be a whole one.

    A chain is not longer than the zone's setting, and is on one store; its volume has not changed its size.
    """
    most = settings_of_zone(connection, snapshot.zone_id).max_chain
    last = snapshots.last_of(connection, snapshot.volume_id)
    if last is None or last.size_bytes != size_bytes:
        return None
    store = zones.store_by_id(connection, last.store_id)
    is_usable = store.removed is None and not store.read_only and store.takes_content and is_suitable(store)
    return last if is_usable and len(snapshots.chain_of(connection, last)) < most else None


def set_backing_up(
    connection: Connection, snapshot: Snapshot, parent: Snapshot | None, size_bytes: int, moved_bytes: int
) -> Snapshot:
    """Record that a snapshot's file is complete on primary storage."""
    return snapshots.update(
        connection,
        snapshot.id,
        state=SnapshotState.BACKING_UP,
        parent_id=parent.id if parent else None,
        store_id=parent.store_id if parent else snapshot.store_id,
        size_bytes=size_bytes,
        physical_size_bytes=moved_bytes,
    )


def set_backed_up(connection: Connection, snapshot: Snapshot, moved_bytes: int | None = None) -> Snapshot:
    """Record that a snapshot's file is on its store; without `moved_bytes` it came there as an image."""
    stored = snapshots.update(connection, snapshot.id, state=SnapshotState.BACKED_UP)
    kind = "an increment" if stored.parent_id is not None else "whole"
    moved = "" if moved_bytes is None else f", of which {moved_bytes} were moved"
    record(
        connection,
        stored,
        "SNAPSHOT.BACKUP",
        f"is on secondary storage: {kind}, {stored.physical_size_bytes} bytes{moved}",
    )
    return stored


def set_failed(connection: Connection, snapshot: Snapshot, message: str, hint: str) -> None:
    failed = snapshots.update(
        connection,
        snapshot.id,
        state=SnapshotState.ERROR,
        parent_id=None,
        error_text=message,
        error_hint=hint,
    )
    record(connection, failed, "SNAPSHOT.CREATE", f"failed: {message}", level="ERROR")


def hide(connection: Connection, snapshot_id: int) -> Snapshot:
    """Delete a snapshot for its users; its file stays while others are increments on it.

    Raises: SnapshotStateError while it is being taken or read.
    """
    snapshot = snapshots.by_id(connection, snapshot_id)
    if snapshot.removed is not None or snapshot.state.is_hidden:
        return snapshot
    if not snapshot.state.has_ended:
        raise SnapshotStateError(
            f"id: snapshot {snapshot.name} is {snapshot.state.value}",
            "wait until it is BackedUp",
            parameter="id",
        )
    if snapshot_images.is_being_read(connection, snapshot_id):
        raise SnapshotStateError(
            f"id: an image is being made from snapshot {snapshot.name}",
            "wait until it is Ready, or delete it",
            parameter="id",
        )
    is_needed = snapshots.has_children(connection, snapshot_id)
    state = SnapshotState.HIDDEN if is_needed else SnapshotState.DESTROYING
    record(connection, snapshot, "SNAPSHOT.DELETE", "is deleted")
    return snapshots.update(connection, snapshot_id, state=state)


def check_stored(snapshot: Snapshot) -> None:
    """Check that a snapshot can be read.

    Raises: SnapshotStateError when it cannot.
    """
    if snapshot.removed is not None or snapshot.state is not SnapshotState.BACKED_UP:
        hint = "take another one" if snapshot.state is SnapshotState.ERROR else "wait until it is BackedUp"
        raise SnapshotStateError(f"snapshot {snapshot.name} is {snapshot.state.value}", hint)


def set_reverted(connection: Connection, snapshot: Snapshot, volume: Volume) -> None:
    volumes.update(connection, volume.id, size_bytes=snapshot.size_bytes)
    record(connection, snapshot, "SNAPSHOT.REVERT", f"is the content of {volume.name} again")


def record(
    connection: Connection,
    snapshot: Snapshot,
    event: str,
    text: str,
    *,
    user_id: int | None = None,
    level: str = "INFO",
) -> None:
    events.record(
        connection,
        event,
        f"{snapshot.name} {text}",
        account_id=snapshot.account_id,
        domain_id=snapshot.domain_id,
        user_id=user_id,
        zone_id=snapshot.zone_id,
        level=level,
        resource_type="Snapshot",
        resource_uuid=snapshot.uuid,
    )
