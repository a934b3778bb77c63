# SPDX-License-Identifier: Apache-2.0
"""The store helper's messages about files of volume snapshots: numbers and checked names, never paths."""

from __future__ import annotations

from attrs import field, frozen

SNAPSHOT_WRITE = "store.snapshot_write"  # agent: a piece where it belongs
SNAPSHOT_PUBLISH = "store.snapshot_publish"  # agent: the file is complete
SNAPSHOT_ADOPT = "store.snapshot_adopt"  # agent: the file of a published template is also this one
SNAPSHOT_REMOVE = "store.snapshot_remove"  # agent


@frozen
class SnapshotKey:
    """The file of one snapshot on one store."""

    mount_id: str
    account_id: int
    volume_id: int
    snapshot_id: str


@frozen
class SnapshotWrite:
    mount_id: str
    account_id: int
    volume_id: int
    snapshot_id: str
    offset: int
    data: bytes = field(repr=False)


@frozen
class SnapshotPublish:
    mount_id: str
    account_id: int
    volume_id: int
    snapshot_id: str
    size_bytes: int


@frozen
class SnapshotAdopt:
    mount_id: str
    account_id: int
    volume_id: int
    snapshot_id: str
    image_account_id: int
    image_id: int


def snapshot_changes(request: SnapshotKey | SnapshotPublish | SnapshotAdopt) -> frozenset[str]:
    """Return keys of what a call changes: two calls with a key in common must not run at the same time."""
    return frozenset({f"snapshot {request.mount_id} {request.snapshot_id}"})
