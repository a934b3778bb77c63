# SPDX-License-Identifier: Apache-2.0
"""The hidden directory that keeps for a week what nothing refers to any more, before it is deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from systemvm.ssvm.store.descriptors import list_names, opened, remove
from systemvm.ssvm.store.openat2 import make_directories, open_directory

QUARANTINE = ".systemvm-quarantine"
KEPT_S = 7 * 24 * 3600.0


def move_to_quarantine(
    mount: int, parent: int, name: str, label: str, now_s: Callable[[], float] = time.time
) -> None:
    """Rename a directory out of sight, as TIME-LABEL; nothing happens when it is not there."""
    with opened(make_directories(mount, QUARANTINE, 0o700)) as quarantine:
        with suppress(FileNotFoundError):
            os.rename(name, f"{int(now_s())}-{label}", src_dir_fd=parent, dst_dir_fd=quarantine)
            os.fsync(quarantine)
            os.fsync(parent)


def remove_expired(mount: int, now_s: Callable[[], float] = time.time) -> int:
    """Delete what has been there for a week; return how many."""
    try:
        quarantine = open_directory(mount, QUARANTINE)
    except FileNotFoundError:
        return 0
    removed = 0
    with opened(quarantine):
        for name in list_names(quarantine):
            since, _, _ = name.partition("-")
            if since.isdecimal() and now_s() - int(since) > KEPT_S:
                remove(quarantine, name)
                removed += 1
    return removed
