# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles on a store, at console-recordings/ACCOUNT/ID.svrec; only root can read them."""

from __future__ import annotations

import os
from contextlib import suppress

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.recording_messages import RecordingContentRequest, RecordingKey, RecordingWrite
from systemvm.ssvm.store.descriptors import opened
from systemvm.ssvm.store.openat2 import make_directories, open_beneath, open_directory
from systemvm.ssvm.store_messages import require_name, require_number
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingContent, RecordingRefusal, StoredSize
from systemvm.wire.transfer_failure import TransferFailure

RECORDINGS = "console-recordings"


def write_piece(mount: int, piece: RecordingWrite) -> StoredSize:
    """Write a piece where it belongs, however often it comes, and make it durable.

    Raises: RpcError when bytes before it are missing, or the file was deleted.
    """
    account, name = require_number(piece.account_id), _file_name(piece.recording_id)
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with opened(make_directories(mount, f"{RECORDINGS}/{account}", 0o700)) as directory:
        # a file is made for the first piece only: one that was deleted must not come back
        try:
            if piece.offset:
                file = open_beneath(directory, name, flags)
            else:
                file = open_beneath(directory, name, flags | os.O_CREAT, 0o600)
        except FileNotFoundError:
            raise RpcError.refused(RecordingRefusal.UNKNOWN, "recording is not on its store") from None
        with opened(file):
            size_bytes = os.fstat(file).st_size
            if piece.offset > size_bytes:
                raise RpcError.refused(
                    RecordingRefusal.GAP,
                    f"recording has {size_bytes} bytes, and the piece begins at {piece.offset}",
                )
            view, at = memoryview(piece.data), piece.offset
            while view:
                written = os.pwrite(file, view, at)
                view, at = view[written:], at + written
            os.fdatasync(file)
        if not piece.offset:
            os.fsync(directory)
    return StoredSize(max(size_bytes, at))


def read_content(mount: int, request: RecordingContentRequest) -> RecordingContent:
    """Return a part of a recording, and the size of the whole.

    Raises: TransferError `lost` when it is not on the store.
    """
    account, name = require_number(request.account_id), _file_name(request.recording_id)
    try:
        file = open_beneath(mount, f"{RECORDINGS}/{account}/{name}", os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise TransferError(TransferFailure.LOST, "recording is not on its store") from None
    with opened(file):
        count = min(max(0, request.count), MAX_PIECE_BYTES)
        return RecordingContent(os.pread(file, count, max(0, request.offset)), os.fstat(file).st_size)


def remove_recording(mount: int, key: RecordingKey) -> None:
    """Remove a recording, if it is there."""
    account, name = require_number(key.account_id), _file_name(key.recording_id)
    with suppress(FileNotFoundError), opened(open_directory(mount, f"{RECORDINGS}/{account}")) as directory:
        os.unlink(name, dir_fd=directory)
        os.fsync(directory)


def _file_name(recording_id: str) -> str:
    return f"{require_name(recording_id)}.svrec"
