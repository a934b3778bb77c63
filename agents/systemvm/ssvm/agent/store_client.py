# SPDX-License-Identifier: Apache-2.0
"""The agent's calls of the root helpers; callers that wait for the same mount share it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from systemvm.rpc.core.errors import RpcError
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.service.single_flight import SingleFlight
from systemvm.ssvm import helper_client, store_messages
from systemvm.ssvm.paths import Paths
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import Store
from systemvm.wire.transfer_failure import TransferFailure

MOUNT_TIMEOUT_S = 150.0  # a first mount loads modules; the helper has shorter timeouts of its own
STORE_TIMEOUT_S = 60.0
FIREWALL_TIMEOUT_S = 45.0
MOUNT_WAIT_S = 25.0  # how long a call that needs a mount waits for it


class StoreClient:
    """Every method raises the RpcError of the helper."""

    def __init__(self, reactor: Any, paths: Paths) -> None:
        self._reactor = reactor
        self._paths = paths
        self._mounting = SingleFlight[str]()  # by the mount's id
        self._mounted: set[str] = set()

    async def call(
        self,
        method: str,
        params: Any,
        result: Any,
        timeout_s: float = STORE_TIMEOUT_S,
        on_progress: Callable[[Any], None] | None = None,
    ) -> Any:
        """Run one operation of the store's helper; each note of progress begins the timeout anew."""
        return await self._call(self._paths.store_socket, method, params, result, timeout_s, on_progress)

    async def ensure_mounted(self, store: Store) -> None:
        """Mount a store unless this process has mounted it."""
        if store_messages.mount_id(store) not in self._mounted:
            await self.mount(store, MOUNT_WAIT_S)

    def mark_unmounted(self, store: Store) -> None:
        """Record that a store is not mounted: the next call that needs it mounts it again."""
        self._mounted.discard(store_messages.mount_id(store))

    async def mount(self, store: Store, timeout_s: float = MOUNT_TIMEOUT_S) -> str:
        """Mount a store; return its mount id. The mount continues when a caller stops waiting for it."""
        mount_id = store_messages.mount_id(store)
        mounted = Deferred.fromCoroutine(
            self._mounting.run(mount_id, lambda: self._run_mount(store, mount_id))
        )
        add_scaled_timeout(mounted, timeout_s, self._reactor)
        try:
            await mounted
        except DeferredTimeout:
            raise RpcError.refused(
                TransferFailure.MOUNT_FAILED,
                f"{store.location} is still being mounted",
                "retry soon",
            ) from None
        return mount_id

    async def unmount(self, store: Store) -> None:
        """Unmount a store that the zone has no more."""
        self.mark_unmounted(store)
        order = store_messages.MountRequest(store)
        await self._call(
            self._paths.mount_socket, store_messages.UNMOUNT, order, Acknowledgement, MOUNT_TIMEOUT_S
        )

    async def open_sources(self, order: store_messages.OpenSources) -> None:
        """Replace what the firewall opens for downloads."""
        await self._call(
            self._paths.mount_socket, store_messages.OPEN_SOURCES, order, Acknowledgement, FIREWALL_TIMEOUT_S
        )

    async def _run_mount(self, store: Store, mount_id: str) -> None:
        order = store_messages.MountRequest(store)
        try:
            await self._call(
                self._paths.mount_socket,
                store_messages.MOUNT,
                order,
                store_messages.MountResult,
                MOUNT_TIMEOUT_S,
            )
        except BaseException:
            self._mounted.discard(mount_id)
            raise
        self._mounted.add(mount_id)

    async def _call(
        self,
        path: Path,
        method: str,
        params: Any,
        result: Any,
        timeout_s: float,
        on_progress: Callable[[Any], None] | None = None,
    ) -> Any:
        answer, _ = await helper_client.call(
            self._reactor, path, method, params, result, timeout_s, on_progress
        )
        return answer
