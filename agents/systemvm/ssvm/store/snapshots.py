# SPDX-License-Identifier: Apache-2.0
"""Files of volume snapshots on a store, at snapshots/ACCOUNT/VOLUME/ID; written under a hidden name first."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.snapshot_messages import SnapshotAdopt, SnapshotKey, SnapshotPublish, SnapshotWrite
from systemvm.ssvm.store.descriptors import opened
from systemvm.ssvm.store.openat2 import make_directories, open_beneath, open_directory
from systemvm.ssvm.store.published_templates import open_image
from systemvm.ssvm.store_messages import require_name, require_number
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.transfer_failure import TransferFailure

SNAPSHOTS = "snapshots"


def write_piece(mount: int, piece: SnapshotWrite) -> None:
    """Write a piece where it belongs, however often and in whatever order it comes."""
    name = _hidden(piece.snapshot_id)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with opened(make_directories(mount, _directory(piece))) as directory:
        with opened(open_beneath(directory, name, flags, 0o600)) as file:
            view, at = memoryview(piece.data), max(0, piece.offset)
            while view:
                written = os.pwrite(file, view, at)
                view, at = view[written:], at + written


def publish(mount: int, end: SnapshotPublish) -> None:
    """Make a complete file durable and visible; does nothing when it is.

    Hosts read it through the export, as they read templates.

    Raises: TransferError `lost` when a part of it is missing.
    """
    hidden, name = _hidden(end.snapshot_id), require_name(end.snapshot_id)
    with opened(make_directories(mount, _directory(end))) as directory:
        if _size(directory, name) == end.size_bytes:
            return
        if _size(directory, hidden) != end.size_bytes:
            raise TransferError(TransferFailure.LOST, "a part of the snapshot is not on its store")
        with opened(open_beneath(directory, hidden, os.O_RDWR | os.O_NOFOLLOW)) as file:
            os.fchmod(file, 0o444)
            os.fsync(file)
        os.rename(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)


def adopt(mount: int, order: SnapshotAdopt) -> None:
    """Give the file of a published template the place of a snapshot, too; does nothing when it has it.

    Both names are one file, which stays when the template is deleted.

    Raises: TransferError `lost` when the template is not there.
    """
    name = require_name(order.snapshot_id)
    with opened(make_directories(mount, _directory(order))) as directory:
        if _size(directory, name) is not None:
            return
        _, file = open_image(mount, order.image_account_id, order.image_id)
        with opened(file):
            os.fchmod(file, 0o444)
            # by its descriptor: what is linked is the file that was checked
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=directory, follow_symlinks=True)
            os.fsync(directory)


def remove_snapshot(mount: int, key: SnapshotKey) -> None:
    """Remove a snapshot, complete or not, if it is there."""
    names = require_name(key.snapshot_id), _hidden(key.snapshot_id)
    with suppress(FileNotFoundError), opened(open_directory(mount, _directory(key))) as directory:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
        os.fsync(directory)
    account = f"{SNAPSHOTS}/{require_number(key.account_id)}"
    with suppress(OSError), opened(open_directory(mount, account)) as parent:
        os.rmdir(str(key.volume_id), dir_fd=parent)  # fails, as intended, when the volume has others


def open_chain(mount: int, chain: StoredChain) -> Iterator[int]:
    """Open the files of a snapshot and of all that it is an increment on; each is the caller's to close.

    Raises: TransferError `source_missing` when one is not there, or is not a regular file.
    """
    place = f"{SNAPSHOTS}/{require_number(chain.account_id)}/{require_number(chain.volume_id)}"
    for snapshot_id in chain.snapshot_ids:
        path = f"{place}/{require_name(snapshot_id)}"
        try:
            # O_NONBLOCK: opening a FIFO that somebody put there must not wait for a writer
            file = open_beneath(mount, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise _missing(path) from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise _missing(path)
        yield file


def _missing(path: str) -> TransferError:
    return TransferError(
        TransferFailure.SOURCE_MISSING, f"{path} is not on its store", "take another snapshot"
    )


def _directory(key: SnapshotKey | SnapshotWrite | SnapshotPublish | SnapshotAdopt) -> str:
    return f"{SNAPSHOTS}/{require_number(key.account_id)}/{require_number(key.volume_id)}"


def _hidden(snapshot_id: str) -> str:
    return f".{require_name(snapshot_id)}.part"


def _size(directory: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None
