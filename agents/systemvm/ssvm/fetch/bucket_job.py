# SPDX-License-Identifier: Apache-2.0
"""One job on a store that is a bucket: marked before the first byte, discarded when the job has failed.

It has the place of JobOnStore: what the mover gets instead of a directory is a connection to the endpoint.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from attrs import evolve
from twisted.logger import Logger

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.bucket_store import BucketStore, T
from systemvm.ssvm.fetch.removal import Removal
from systemvm.ssvm.fetch.store_connector import StoreConnector
from systemvm.ssvm.mover_messages import ObjectTarget
from systemvm.ssvm.s3 import object_keys
from systemvm.ssvm.s3.endpoint import endpoint_of
from systemvm.ssvm.s3.jobs import BucketJobs
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.s3.part_size import part_bytes
from systemvm.ssvm.s3.signing import credentials_of
from systemvm.ssvm.store_messages import JobDirectory, JobKey
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import ImageFormat

#: A bucket has no size that could be asked for: what it takes is its server's to say.
UNLIMITED_BYTES = 1 << 62
#: The largest object of S3 (Amazon S3 User Guide, "Uploading objects").
MAX_OBJECT_BYTES = 5 << 40


class ImageOrder(Protocol):
    """What downloads and uploads tell of an image: where its object is, and how large it can become."""

    @property
    def account_id(self) -> int: ...
    @property
    def template_id(self) -> int: ...
    @property
    def format(self) -> ImageFormat: ...
    @property
    def max_size_bytes(self) -> int: ...


class BucketJob:
    """The mark, the object and the connections of one job."""

    _log = Logger(namespace="systemvm.ssvm.fetch.transfer")

    def __init__(
        self,
        reactor: Any,
        buckets: BucketStore,
        bucket: S3Bucket,
        key: JobKey,
        order: ImageOrder,
        connector: StoreConnector,
        *,
        is_copy: bool,
    ) -> None:
        self._reactor = reactor
        self._buckets = buckets
        self._bucket = bucket
        self._key = key
        self._connector = connector
        self._is_copy = is_copy
        self._removal = Removal(reactor)
        image = object_keys.image_key(
            order.account_id, order.template_id, object_keys.image_name(key.job_id, order.format)
        )
        self._target = ObjectTarget(
            endpoint_of(bucket),
            credentials_of(bucket),
            image,
            object_keys.journal_key(key.owner, key.job_id, image),
            bucket.ca_pem,
            part_bytes(min(order.max_size_bytes, MAX_OBJECT_BYTES)),
        )

    @property
    def is_cleaning_up(self) -> bool:
        """Whether something of the job can still be in the bucket, after it has ended."""
        return self._removal.is_running

    def target(self, total_bytes: int | None) -> ObjectTarget:
        """Return what the mover writes; a copy has exactly as many bytes as its source."""
        if not self._is_copy or total_bytes is None:
            return self._target
        return evolve(self._target, part_bytes=part_bytes(total_bytes))

    def cancel(self) -> None:
        """End the search for another connection."""
        self._connector.cancel()

    async def make(
        self, is_wanted: Callable[[], bool], on_wait: Callable[[], None]
    ) -> tuple[JobDirectory, list[int]]:
        """Mark the job; return a connection, which the caller must close."""

        def mark(server: Exchange) -> None:
            BucketJobs(server).make(self._key, self._target.key)

        await self._repeat(mark, "mark", is_wanted, on_wait)
        try:
            connection = await self._connector.connect()
        except TransferError as error:
            if not error.code.is_retryable:
                raise
            connection = await self._connector.reconnect(error)
        return JobDirectory(UNLIMITED_BYTES), [connection.detach()]

    def renew_keys(self, bucket: S3Bucket) -> None:
        """Use these keys for all that begins from now on; a mover that writes keeps those that it has."""
        self._bucket = bucket
        self._target = evolve(
            self._target,
            endpoint=endpoint_of(bucket),
            credentials=credentials_of(bucket),
            ca_pem=bucket.ca_pem,
        )

    async def reconnect(self, error: TransferError) -> socket.socket:
        """Return another connection after `error`, for as long as the job's budget lasts."""
        return await self._connector.reconnect(error)

    async def remove(
        self, writer_ended: Awaitable[None], is_wanted: Callable[[], bool], at_most_s: float | None
    ) -> None:
        """Discard all parts after their writer has ended; return after `at_most_s` even when it hangs."""
        await self._removal.run(self._discard(writer_ended, is_wanted), at_most_s)

    async def _discard(self, writer_ended: Awaitable[None], is_wanted: Callable[[], bool]) -> None:
        await writer_ended

        def discard(server: Exchange) -> None:
            BucketJobs(server).discard(self._key.owner, self._key.job_id)

        try:
            await self._repeat(discard, "discard", is_wanted, lambda: None)
        except RpcError as left:
            self._log.warn(
                "{job_id}: its parts cannot be discarded: {error}", job_id=self._key.job_id, error=str(left)
            )

    async def _repeat(
        self,
        work: Callable[[Exchange], T],
        doing: str,
        is_wanted: Callable[[], bool],
        on_wait: Callable[[], None],
    ) -> T:
        async def call() -> T:
            try:
                return await self._buckets.run(self._bucket, work)
            except TransferError as error:
                raise error.to_rpc() from error

        return await retry_transient_errors(
            self._reactor,
            call,
            what=f"{self._key.job_id}: {doing} in the bucket",
            is_wanted=is_wanted,
            on_wait=lambda error: on_wait(),
        )
