# SPDX-License-Identifier: Apache-2.0
"""The directories of pools on this host: a shared mount point is checked, an NFS export is mounted.

QEMU runs as another user than the daemon. It opens disks through their group, which new files get from a
directory with the set-group-ID bit (inode(7)).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.internet.threads import deferToThread

from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import storage_pools
from systemvm.management.state.storage_pools import StoragePool


class HostPoolDirectories:
    """Prepares the directory of a pool before each use."""

    def __init__(self, own: Path) -> None:
        """`own` is the host's own directory, whose group the others must have."""
        self._own = own

    def directory(self, pool: StoragePool) -> Path:
        """Return where a pool is on this host, whether it can be used or not."""
        return self._own if pool.is_own_directory else Path(pool.path)

    async def prepare(self, pool: StoragePool) -> Path:
        """Return the directory of a pool that can be used.

        Raises: PrimaryStorageError with the reason when it cannot be used.
        """
        directory = self.directory(pool)
        if pool.type == storage_pools.NFS_POOL:
            raise PrimaryStorageError(
                f"{pool.place} cannot be a storage pool: this release mounts no NFS for pools",
                "mount it on each host, and create the pool with SharedMountPoint://localhost/PATH",
            )
        if pool.type == storage_pools.SHARED_MOUNT_POINT:
            await deferToThread(check_directory, directory, self._own)
        return directory

    async def release(self, pool: StoragePool) -> None:
        """Undo what `prepare` did on this host; files stay."""


def check_directory(directory: Path, own: Path) -> None:
    """Check that the daemon and QEMU can use a directory. It blocks.

    Raises: PrimaryStorageError with the reason and what makes it usable.
    """
    what = f"{directory} cannot be a storage pool"
    try:
        status, model = directory.stat(), own.stat()
    except OSError as error:
        raise PrimaryStorageError(
            f"{what}: {error.strerror}", "mount the shared file system there on each host"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise PrimaryStorageError(f"{what}: it is not a directory", "name a directory")
    is_shared = (
        status.st_gid == model.st_gid and status.st_mode & stat.S_ISGID >= model.st_mode & stat.S_ISGID
    )
    if not is_shared or not os.access(directory, os.W_OK | os.X_OK):
        raise PrimaryStorageError(
            f"{what}: the daemon or QEMU cannot write there",
            f"give it the owner, the group and the mode of {own}, and allow it in the units of daemon and"
            " launcher",
        )
