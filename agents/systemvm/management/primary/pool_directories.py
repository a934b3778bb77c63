# SPDX-License-Identifier: Apache-2.0
"""The directories of pools on this host: a shared mount point is checked, an NFS export is mounted.

QEMU runs as another user than the daemon. It opens disks through their group, which new files get from a
directory with the set-group-ID bit (inode(7)).
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread

from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import storage_pools
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.mountinfo import find_mount


class Mounter(Protocol):
    """Mounts exports, as root."""

    async def mount(self, pool: StoragePool) -> None: ...
    async def unmount(self, pool_uuid: str, name: str) -> None: ...


class StaleDirectoryError(PrimaryStorageError):
    """The directory of a mount was deleted or replaced on its server."""


class HostPoolDirectories:
    """Prepares the directory of a pool before each use."""

    def __init__(
        self, own: Path, mounts: Path, mounter: Mounter, mountinfo: Path = Path("/proc/self/mountinfo")
    ) -> None:
        """`own` is the host's own directory, whose group the others must have."""
        self._own = own
        self._mounts = mounts
        self._mounter = mounter
        self._mountinfo = mountinfo
        self._locks: dict[str, DeferredLock] = {}
        self._released: set[str] = set()

    def directory(self, pool: StoragePool) -> Path:
        """Return where a pool is on this host, whether it can be used or not."""
        if pool.is_own_directory:
            return self._own
        return self._mounts / pool.uuid if pool.type == storage_pools.NFS_POOL else Path(pool.path)

    async def prepare(self, pool: StoragePool) -> Path:
        """Return the directory of a pool that can be used.

        Raises: PrimaryStorageError with the reason when it cannot be used.
        """
        directory = self.directory(pool)
        if pool.is_own_directory:
            return directory
        # requests that come while a server hangs wait for the first one, in no thread of their own
        async with self._locks.setdefault(pool.uuid, DeferredLock()):
            if pool.uuid in self._released:
                raise PrimaryStorageError(f"storage pool {pool.name} cannot be used: it is being deleted")
            if pool.type == storage_pools.NFS_POOL and not self._is_mounted(directory):
                await self._mount(pool, directory)
            try:
                await deferToThread(check_directory, directory, self._own)
            except StaleDirectoryError:
                if pool.type != storage_pools.NFS_POOL:
                    raise
                await self._mount(pool, directory)
                await deferToThread(check_directory, directory, self._own)
        return directory

    async def _mount(self, pool: StoragePool, directory: Path) -> None:
        await self._mounter.mount(pool)
        if not self._is_mounted(directory):
            raise PrimaryStorageError(
                f"storage pool {pool.name}: the mount at {directory} is not visible to the daemon",
                "restart systemvm-managementd and systemvm-launcher",
            )

    async def check_distinct(self, pool: StoragePool, others: Iterable[StoragePool]) -> None:
        """Check that the directory of a pool that is created is not that of another one by another name.

        Raises: PrimaryStorageError when it is.
        """
        named = {other.name: self.directory(other) for other in others}
        same = await deferToThread(_find_same, self.directory(pool), named)
        if same is not None:
            raise PrimaryStorageError(
                f"storage pool {pool.name} cannot be created: {pool.place} is the directory of the storage"
                f" pool {same}, too",
                "choose another directory or export",
            )

    async def release(self, pool: StoragePool) -> None:
        """Unmount a pool on this host, and refuse to prepare it from now on; files stay.

        A request that has read the pool's row before it was deleted would mount it again otherwise.

        Raises: PrimaryStorageError when something uses it; the pool can still be prepared then.
        """
        if pool.type != storage_pools.NFS_POOL:
            return
        async with self._locks.setdefault(pool.uuid, DeferredLock()):
            await self._mounter.unmount(pool.uuid, pool.name)
            self._released.add(pool.uuid)

    def reopen(self, pool: StoragePool) -> None:
        """Undo `release`: the pool is mounted again when it is used next."""
        self._released.discard(pool.uuid)

    def mount_points(self) -> list[str]:
        """Return the UUIDs that the mount helper has a directory for; no export is touched."""
        try:
            return [path.name for path in self._mounts.iterdir() if _is_uuid(path.name)]
        except FileNotFoundError:
            return []  # nothing was mounted yet

    async def remove_mount_point(self, pool_uuid: str) -> None:
        """Unmount what no pool has. Raises: PrimaryStorageError when something uses it."""
        await self._mounter.unmount(pool_uuid, pool_uuid)

    def _is_mounted(self, directory: Path) -> bool:
        return find_mount(self._mountinfo.read_text(), directory) is not None


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _find_same(directory: Path, others: dict[str, Path]) -> str | None:
    """Return the name of another directory where a new file of this one is, too. It blocks.

    Device and inode are not compared, because an NFS export by two addresses of its server has two devices.
    """
    with tempfile.NamedTemporaryFile(prefix=".systemvm-", dir=directory) as file:
        name = Path(file.name).name
        return next((other for other, path in others.items() if (path / name).exists()), None)


def check_directory(directory: Path, own: Path) -> None:
    """Check that the daemon and QEMU can use a directory. It blocks.

    Raises: PrimaryStorageError with the reason and what makes it usable.
    """
    what = f"{directory} cannot be a storage pool"
    try:
        status, model = directory.stat(), own.stat()
    except OSError as error:
        kind = StaleDirectoryError if error.errno == errno.ESTALE else PrimaryStorageError
        raise kind(f"{what}: {error.strerror}", "mount the shared file system there on each host") from error
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
