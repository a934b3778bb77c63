# SPDX-License-Identifier: Apache-2.0
"""The agent's calls of the root helpers; callers that wait for the same mount share it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.peer import Peer
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.service.single_flight import SingleFlight
from systemvm.service.slowness import scaled_s
from systemvm.ssvm import helper_client, store_messages
from systemvm.ssvm.fetch_messages import BUCKET, BucketCall
from systemvm.ssvm.paths import Paths
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import Store, StoreStats
from systemvm.wire.transfer_failure import TransferFailure

MOUNT_TIMEOUT_S = 150.0  # a first mount loads modules; the helper has shorter timeouts of its own
STORE_TIMEOUT_S = 60.0
FIREWALL_TIMEOUT_S = 45.0
MOUNT_WAIT_S = 25.0  # how long a call that needs a mount waits for it


class StoreClient:
    """Every method raises the RpcError of the helper."""

    def __init__(
        self, reactor: Any, paths: Paths, fetch: Callable[[], Awaitable[Peer]] | None = None
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._fetch = fetch  # which reaches buckets; None: it cannot
        self._buckets: dict[str, S3Bucket] = {}  # with their keys, by the store's id
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
        """Run one operation of the store's helper; each note of progress begins the timeout anew.

        Of a store that is a bucket, fetch runs it.
        """
        bucket = self._buckets.get(_store_of(params))
        if bucket is not None:
            return await self._call_bucket(bucket, method, params, result, timeout_s)
        return await self._call(self._paths.store_socket, method, params, result, timeout_s, on_progress)

    async def ensure_mounted(self, store: Store) -> None:
        """Mount a store unless this process has mounted it.

        Raises: RpcError, also for a bucket whose keys have not come yet: the daemon sends them at each
            connection.
        """
        if store.s3 is not None:
            self.bucket_of(store)
            return
        if store_messages.mount_id(store) not in self._mounted:
            await self.mount(store, MOUNT_WAIT_S)

    def mark_unmounted(self, store: Store) -> None:
        """Record that a store is not mounted: the next call that needs it mounts it again."""
        self._mounted.discard(store_messages.mount_id(store))

    def bucket_of(self, store: Store) -> S3Bucket | None:
        """Return the bucket of a store with its keys; None for a mounted store.

        Raises: RpcError when its keys have not come yet.
        """
        if store.s3 is None:
            return None
        bucket = self._buckets.get(store_messages.mount_id(store))
        if bucket is None:
            raise RpcError.refused(
                TransferFailure.STORE_NOT_MOUNTED,
                f"keys of {store.location} are not known yet",
                "wait: the daemon sends them by storage.setup",
            )
        return bucket

    async def mount(self, store: Store, timeout_s: float = MOUNT_TIMEOUT_S) -> str:
        """Mount a store; return its mount id. The mount continues when a caller stops waiting for it."""
        mount_id = store_messages.mount_id(store)
        if store.s3 is not None:
            await self._open_bucket(store, mount_id, store.s3)
            return mount_id
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

    def has_other_keys(self, store: Store) -> bool:
        """Whether a store comes with other keys than those that its jobs have."""
        known = None if store.s3 is None else self._buckets.get(store_messages.mount_id(store))
        return known is not None and store.s3 is not None and store.s3.has_keys and known != store.s3

    async def _open_bucket(self, store: Store, mount_id: str, sent: S3Bucket) -> None:
        """Use the keys that were sent; those that the server refuses replace none that were known before."""
        known = self._buckets.get(mount_id)
        bucket = sent if sent.has_keys else self.bucket_of(store)
        if bucket is None:
            return
        try:
            order = store_messages.StatsRequest(mount_id)
            await self._call_bucket(bucket, store_messages.STATS, order, StoreStats, STORE_TIMEOUT_S)
            if bucket != known and not store.read_only:
                await self._call_bucket(bucket, store_messages.PROBE, order, Acknowledgement, STORE_TIMEOUT_S)
        except RpcError as error:
            if known is None or error.reason != TransferFailure.STORE_REFUSES.value:
                self._buckets[mount_id] = bucket
            raise
        self._buckets[mount_id] = bucket

    async def unmount(self, store: Store) -> None:
        """Unmount a store that the zone has no more."""
        self.mark_unmounted(store)
        if store.s3 is not None:
            self._buckets.pop(store_messages.mount_id(store), None)
            return
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

    async def _call_bucket(
        self, bucket: S3Bucket, method: str, params: Any, result: Any, timeout_s: float
    ) -> Any:
        if self._fetch is None:
            raise RpcError.refused(TransferFailure.REQUEST_INVALID, "this program cannot reach buckets")
        peer = await self._fetch()
        order = BucketCall(bucket, method, msgspec.to_builtins(params))
        answer = await peer.call(BUCKET, order, result=Any, deadline_s=scaled_s(timeout_s))
        return msgspec.convert(answer, type=result)

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


def _store_of(params: Any) -> str:
    """Return the id of the store that an operation is for."""
    job = getattr(params, "job", None)
    return str(getattr(job if job is not None else params, "mount_id", ""))
