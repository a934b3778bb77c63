# SPDX-License-Identifier: Apache-2.0
"""Lists a directory of a store for an administrator; nothing is opened but directories."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.store.descriptors import list_names, opened
from systemvm.ssvm.store.openat2 import open_beneath
from systemvm.wire.storage import StoreObject, StoreObjects
from systemvm.wire.transfer_failure import TransferFailure

#: At most 255 bytes of name each, which JSON can write with six characters: far below the longest frame.
PAGE = 400
MAX_PATH = 1024


def browse(mount: int, path: str, after: str) -> StoreObjects:
    """Return a page of the entries of a directory, or the file at `path`.

    Raises: TransferError `source_missing` when there is none.
    """
    wanted = path.strip("/")
    if len(wanted) > MAX_PATH or ".." in wanted.split("/") or "\0" in wanted:
        raise TransferError(TransferFailure.REQUEST_INVALID, f"path leaves the store: {path[:80]!r}")
    try:
        found = open_beneath(mount, wanted or ".", os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise TransferError(TransferFailure.SOURCE_MISSING, f"{path[:200]} is not on the store") from None
    except OSError as error:
        raise of_store(error, f"opening {path[:200]}") from None
    with opened(found):
        state = os.fstat(found)
        if not stat.S_ISDIR(state.st_mode):
            return StoreObjects([_object(wanted.rpartition("/")[2], state)])
    with opened(open_beneath(mount, wanted or ".", os.O_RDONLY | os.O_DIRECTORY)) as directory:
        names = [name for name in list_names(directory) if name > after]
        page = names[:PAGE]
        objects = []
        for name in page:
            with suppress(FileNotFoundError):  # removed at this moment
                objects.append(_object(name, os.stat(name, dir_fd=directory, follow_symlinks=False)))
    return StoreObjects(objects, page[-1] if len(names) > len(page) else "")


def _object(name: str, state: os.stat_result) -> StoreObject:
    is_directory = stat.S_ISDIR(state.st_mode)
    return StoreObject(name, is_directory, 0 if is_directory else state.st_size, state.st_mtime)
