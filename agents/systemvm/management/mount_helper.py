# SPDX-License-Identifier: Apache-2.0
"""Mounts the exports of storage pools: it calls `systemvm.mounthelper`, which has the privileges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call

_TIMEOUT_S = 150.0  # longer than what the helper gives mount(8)


class MountHelper:
    """Each call can be repeated."""

    def __init__(self, helper: Path) -> None:
        self._helper = helper

    async def mount(self, pool: StoragePool) -> None:
        """Mount the export of a pool. Raises: PrimaryStorageError with the reason."""
        await self._call(pool, do="mount", pool=pool.uuid, server=pool.server, path=pool.path)

    async def unmount(self, pool: StoragePool) -> None:
        """Unmount the export of a pool that nothing uses. Raises: PrimaryStorageError with the reason."""
        await self._call(pool, do="unmount", pool=pool.uuid)

    async def _call(self, of: StoragePool, **request: Any) -> None:
        try:
            await deferToThread(call, self._helper, request, timeout_s=scaled_s(_TIMEOUT_S))
        except RefusedError as error:
            raise PrimaryStorageError(f"storage pool {of.name}: {error.message}", error.hint) from error
        except OSError as error:
            raise PrimaryStorageError(
                f"storage pool {of.name}: mount helper does not answer at {self._helper}:"
                f" {error.strerror or error}",
                "check that systemvm-mounthelper.socket is active",
            ) from error
