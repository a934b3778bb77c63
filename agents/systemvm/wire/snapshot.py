# SPDX-License-Identifier: Apache-2.0
"""Messages about the files of volume snapshots, of the daemon to SSVMs (protocol 3)."""

from __future__ import annotations

from attrs import field, frozen

from systemvm.wire.storage import Store

SNAPSHOT_WRITE = "snapshot.write"  # daemon → agent: a piece where it belongs; idempotent
SNAPSHOT_PUBLISH = "snapshot.publish"  # daemon → agent: all pieces are written; idempotent
SNAPSHOT_ADOPT = "snapshot.adopt"  # daemon → agent: a template's file is also that of a snapshot; idempotent
SNAPSHOT_DELETE = "snapshot.delete"  # daemon → agent; idempotent

#: Of a piece: in base64 below the longest frame.
MAX_PIECE_BYTES = 512 * 1024


@frozen
class SnapshotPlace:
    """The file of one snapshot: snapshots/ACCOUNT/VOLUME/ID, as CloudStack has it."""

    store: Store
    account_id: int
    volume_id: int
    snapshot_id: str


@frozen
class SnapshotPiece:
    place: SnapshotPlace
    offset: int  # of its first byte in the file
    data: bytes = field(repr=False)


@frozen
class SnapshotEnd:
    """The whole file, which is visible from now on."""

    place: SnapshotPlace
    size_bytes: int


@frozen
class SnapshotAdoption:
    """A snapshot that came from another zone as the image of a template, on the same store."""

    place: SnapshotPlace
    image_account_id: int
    image_id: int  # the number of the template
