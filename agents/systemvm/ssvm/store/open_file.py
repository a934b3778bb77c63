# SPDX-License-Identifier: Apache-2.0
"""Opens a regular file of a store for reading."""

from __future__ import annotations

import errno
import os
import stat

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store.openat2 import open_beneath
from systemvm.ssvm.store_messages import OpenedImage
from systemvm.wire.transfer_failure import TransferFailure

MAX_PATH = 1024
#: The file is not there, or a directory, a link or a mount is in its place.
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EXDEV})


def open_file(mount: int, path: str) -> tuple[OpenedImage, int]:
    """Open a regular file beneath a mount; the descriptor is the caller's.

    Raises: OSError as open(2) does, IsADirectoryError for anything else than a regular file.
    """
    # O_NONBLOCK: opening a FIFO that somebody put there must not wait for a writer
    file = open_beneath(mount, path, os.O_RDONLY | os.O_NONBLOCK)
    state = os.fstat(file)
    if not stat.S_ISREG(state.st_mode):
        os.close(file)
        raise IsADirectoryError(errno.EISDIR, "not a regular file", path)
    entity_tag = f"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"
    return OpenedImage(state.st_size, int(state.st_mtime), entity_tag), file


def open_object(mount: int, path: str) -> tuple[OpenedImage, int]:
    """Open the file at a path that an administrator chose; hidden files are not complete, and not opened.

    Raises: TransferError `request_invalid` for such a path, `lost` when no regular file is there.
    """
    parts = path.strip("/").split("/")
    if len(path) > MAX_PATH or "\0" in path or any(not part or part.startswith(".") for part in parts):
        raise TransferError(TransferFailure.REQUEST_INVALID, f"not the path of a file: {path[:80]!r}")
    try:
        return open_file(mount, "/".join(parts))
    except OSError as error:
        if error.errno in NOT_THERE:
            raise TransferError(TransferFailure.LOST, f"{path[:200]} is not a file of the store") from None
        raise
