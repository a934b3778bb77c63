# SPDX-License-Identifier: Apache-2.0
"""The operations on stores that are buckets, for the agent, which has no way to them: threads, one a call.

A bucket's keys come with each call and are kept nowhere. Each call connects to the endpoint that the operator
has named, and to nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, TypeVar

import msgspec
from attrs import frozen
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool

from systemvm.ssvm import recording_messages
from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.cancellation import Cancellation
from systemvm.ssvm.fetch.connect import open_connection
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch.store_connector import StoreConnector
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.s3.connection import S3Connection
from systemvm.ssvm.s3.endpoint import endpoint_of
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.jobs import BucketJobs
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.s3.recordings import BucketRecordings
from systemvm.ssvm.s3.signing import Signer, credentials_of
from systemvm.ssvm.s3.templates import BucketTemplates
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import StoreStats
from systemvm.wire.transfer_failure import TransferFailure

T = TypeVar("T")
MAX_CALLS = 4
#: So often a connection that was lost is replaced during one call; the caller repeats the call.
MAX_RECONNECTIONS = 3


@frozen
class _Operation:
    params: Any
    work: Callable[[Exchange, Any], Any]
    #: Two calls with the same result run one after another.
    changes: Callable[[Any], frozenset[str]] | None = None


def _sweep(server: Exchange, params: messages.SweepRequest) -> StoreStats:
    BucketJobs(server).sweep(params)
    return StoreStats(0, 0)


def _check(server: Exchange, params: messages.StatsRequest) -> StoreStats:
    """No server tells how large or how full a bucket is."""
    BucketTemplates(server).check()
    return StoreStats(0, 0)


def _acknowledge(work: Callable[[Exchange, Any], None]) -> Callable[[Exchange, Any], Acknowledgement]:
    def acknowledged(server: Exchange, params: Any) -> Acknowledgement:
        work(server, params)
        return Acknowledgement()

    return acknowledged


_OPERATIONS = {
    messages.FIND: _Operation(
        messages.FindRequest,
        lambda server, params: messages.FindResult(BucketTemplates(server).find(params)),
    ),
    messages.PUBLISH: _Operation(
        messages.PublishRequest, lambda server, params: BucketTemplates(server).publish(params)
    ),
    messages.DISCARD: _Operation(
        messages.JobKey,
        _acknowledge(lambda server, params: BucketJobs(server).discard(params.owner, params.job_id)),
    ),
    messages.DELETE: _Operation(
        messages.DeleteRequest, _acknowledge(lambda server, params: BucketTemplates(server).delete(params))
    ),
    messages.QUARANTINE: _Operation(
        messages.QuarantineRequest,
        _acknowledge(lambda server, params: BucketTemplates(server).quarantine(params)),
    ),
    messages.STATS: _Operation(messages.StatsRequest, _check),
    messages.PROBE: _Operation(
        messages.StatsRequest, _acknowledge(lambda server, params: BucketJobs(server).probe())
    ),
    messages.SWEEP: _Operation(messages.SweepRequest, _sweep),
    messages.LIST: _Operation(
        messages.ListRequest, lambda server, params: BucketTemplates(server).list_templates(params)
    ),
    messages.BROWSE: _Operation(
        messages.BrowseStoreRequest, lambda server, params: BucketTemplates(server).browse(params)
    ),
    recording_messages.RECORDING_WRITE: _Operation(
        recording_messages.RecordingWrite,
        lambda server, params: BucketRecordings(server).write(params),
        recording_messages.recording_changes,
    ),
    recording_messages.RECORDING_CONTENT: _Operation(
        recording_messages.RecordingContentRequest,
        lambda server, params: BucketRecordings(server).read(params),
    ),
    recording_messages.RECORDING_REMOVE: _Operation(
        recording_messages.RecordingKey,
        _acknowledge(lambda server, params: BucketRecordings(server).remove(params)),
        recording_messages.recording_changes,
    ),
}


class BucketStore:
    """Runs a few operations at a time."""

    def __init__(self, reactor: Any, limits: TransferLimits) -> None:
        self._reactor = reactor
        self._limits = limits
        self._slots = DeferredSemaphore(MAX_CALLS)
        self._changing: dict[frozenset[str], DeferredLock] = {}

    async def call(self, bucket: S3Bucket, method: str, params: dict[str, Any]) -> Any:
        """Run an operation of the store's helper on a bucket; return its result as JSON's values.

        Raises: TransferError, `store_unreachable` when the same call can succeed later.
        """
        operation = _OPERATIONS.get(method)
        if operation is None:
            raise TransferError(TransferFailure.REQUEST_INVALID, f"a bucket has no {method[:40]}")
        try:
            order = msgspec.convert(params, type=operation.params)
        except msgspec.ValidationError as error:
            raise TransferError(TransferFailure.REQUEST_INVALID, f"{method} is not valid: {error}") from None

        async def run() -> Any:
            return await self.run(bucket, lambda server: operation.work(server, order))

        changes = operation.changes
        result = await (run() if changes is None else self._alone(changes(order), run))
        return msgspec.to_builtins(result)

    async def _alone(self, changes: frozenset[str], run: Callable[[], Awaitable[T]]) -> T:
        lock = self._changing.setdefault(changes, DeferredLock())
        await lock.acquire()
        try:
            return await run()
        finally:
            lock.release()
            if not lock.locked:
                self._changing.pop(changes, None)

    async def run(self, bucket: S3Bucket, work: Callable[[Exchange], T]) -> T:
        """Run `work` with a connection to the bucket, in a thread."""
        await self._slots.acquire()
        try:
            return await self._run(bucket, work)
        except TransferError as error:
            if error.code.is_retryable or (isinstance(error, S3Error) and error.is_transient):
                raise TransferError(TransferFailure.STORE_UNREACHABLE, error.message, error.hint) from error
            raise
        finally:
            self._slots.release()

    async def _run(self, bucket: S3Bucket, work: Callable[[Exchange], T]) -> T:
        endpoint, limits = endpoint_of(bucket), self._limits
        budget = RetryBudget(limits, self._reactor.seconds)
        connector = StoreConnector(self._reactor, endpoint, limits, budget, Cancellation())
        first = await connector.connect()
        address = ip_address(first.getpeername()[0])
        left = MAX_RECONNECTIONS

        def reconnect(error: TransferError) -> socket.socket:
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return open_connection(address, endpoint.port, limits.connect_timeout_s)

        server = S3Connection(
            first, endpoint, Signer(credentials_of(bucket), endpoint.region), reconnect, limits, bucket.ca_pem
        )

        def run() -> T:
            try:
                return work(server)
            finally:
                server.close()

        running: Deferred[T] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), run)
        return await running
