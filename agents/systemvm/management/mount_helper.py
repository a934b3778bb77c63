# SPDX-License-Identifier: Apache-2.0
"""Mounts the exports of storage pools: it calls `systemvm.mounthelper`, which has the privileges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.errors import FailureCode
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call
from systemvm.wire.mount_failure import MountFailure

_TIMEOUT_S = 150.0  # longer than what the helper gives a request, with the kill of what hangs


class PoolMountError(PrimaryStorageError):
    """An export that was not mounted or unmounted; `failure` is the reason for programs."""

    def __init__(self, failure: MountFailure, message: str, hint: str) -> None:
        in_use = failure is MountFailure.IN_USE
        super().__init__(message, hint, code=FailureCode.IN_USE if in_use else FailureCode.UNAVAILABLE)
        self.failure = failure


class PoolMounts:
    """Each call can be repeated."""

    def __init__(self, helper: Path) -> None:
        self._helper = helper

    async def mount(self, pool: StoragePool) -> None:
        """Mount the export of a pool; a stale one that nothing uses is mounted again.

        Raises: PoolMountError with the reason.
        """
        await self._call(pool.name, do="mount", pool=pool.uuid, server=pool.server, path=pool.path)

    async def unmount(self, pool_uuid: str, name: str) -> None:
        """Unmount the export of a pool, which `name` is called in errors.

        Raises: PoolMountError with the reason.
        """
        await self._call(name, do="unmount", pool=pool_uuid)

    async def _call(self, name: str, **request: Any) -> None:
        try:
            await deferToThread(call, self._helper, request, timeout_s=scaled_s(_TIMEOUT_S))
        except RefusedError as error:
            raise PoolMountError(
                _failure(error.reason), f"storage pool {name}: {error.message}", error.hint
            ) from error
        except OSError as error:
            raise PoolMountError(
                MountFailure.FAILED,
                f"storage pool {name}: mount helper does not answer at {self._helper}:"
                f" {error.strerror or error}",
                "check that systemvm-mounthelper.socket is active",
            ) from error


def _failure(reason: str) -> MountFailure:
    """Return the reason that a helper reports; one of a newer helper is a failure like any other."""
    try:
        return MountFailure(reason)
    except ValueError:
        return MountFailure.FAILED
