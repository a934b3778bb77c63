# SPDX-License-Identifier: Apache-2.0
"""The copies between stores that this SSVM makes: the store's helper copies, the agent publishes and reports.

A copy has the statuses of a download. It needs neither fetch nor a mover: no byte of it comes from a URL.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger

from systemvm.guest.context import AgentContext
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.download import downloaded, failed
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store_messages import (
    CopyProgress,
    FindRequest,
    FindResult,
    JobKey,
    PublishedTemplate,
    PublishRequest,
    StoreCopyRequest,
    StoreCopyResult,
)
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import CopyRequest, DownloadState, DownloadStatus, DownloadStep, Store
from systemvm.wire.transfer_failure import TransferFailure

#: CloudStack's secstorage.max.migrate.sessions.
MAX_RUNNING = 2
#: The longest time between two notes of progress; a chunk and its fsync take far less.
STALL_TIMEOUT_S = 180.0
PUBLISH_TIMEOUT_S = 120.0
REMEMBERED_COPIES = 512
#: How long an abort waits for the removal of its files: a store that hangs does not delay it. What is left
#: then, the next sweep removes.
DISCARD_WAIT_S = 0.5

T = TypeVar("T")


@define
class Copy:
    """A copy from its start until it is forgotten."""

    request: CopyRequest
    status: DownloadStatus
    running: Deferred[None] | None = field(default=None, repr=False)
    is_abandoned: bool = False

    @property
    def is_active(self) -> bool:
        return not self.status.state.ended


class CopyManager:
    """Starts, aborts and reports copies; `sweep_ended(store)` returns when no sweep of a store runs."""

    _log = Logger(namespace="systemvm.ssvm.agent.copies")

    def __init__(
        self,
        context: AgentContext,
        stores: StoreClient,
        sweep_ended: Callable[[Store], Awaitable[None]],
    ) -> None:
        self._context = context
        self._stores = stores
        self._sweep_ended = sweep_ended
        self._known: dict[str, Copy] = {}
        self._slots = DeferredSemaphore(MAX_RUNNING)

    def get_or_start(self, request: CopyRequest) -> DownloadStatus:
        """Return the status of a copy; start it when its id is new."""
        copy = self._known.get(request.job_id)
        if copy is None:
            self._log.info(
                "{job_id}: accepted a copy (request {request_id})",
                job_id=request.job_id,
                request_id=request.request_id,
            )
            status = DownloadStatus(request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS)
            copy = self._known[request.job_id] = Copy(request, status)
            running = Deferred.fromCoroutine(self._run(copy))
            if not running.called:
                copy.running = running
        return copy.status

    def status_of(self, job_id: str) -> DownloadStatus | None:
        known = self._known.get(job_id)
        return None if known is None else known.status

    async def abort(self, job_id: str) -> None:
        """Stop a copy if it runs, and forget it; its files are removed as soon as the store permits."""
        copy = self._known.get(job_id)
        if copy is not None and copy.is_active:
            copy.is_abandoned = True
            if copy.running is not None:
                copy.running.cancel()
            await self._wait_shortly(Deferred.fromCoroutine(self._discard(copy)))
        self._known.pop(job_id, None)

    def active_job_ids(self) -> list[str]:
        """Return the copies that have not ended: a sweep must spare their directories."""
        return [job_id for job_id, copy in self._known.items() if copy.is_active]

    def statuses(self) -> list[DownloadStatus]:
        """Return the present status of every copy that is remembered."""
        return [copy.status for copy in self._known.values()]

    def resend_statuses(self) -> None:
        for copy in self._known.values():
            if copy.is_active:
                self._notify(copy)

    def stop(self) -> None:
        for copy in self._known.values():
            if copy.running is not None:
                copy.running.cancel()

    # ---- one copy ------------------------------------------------------------------------------------------

    async def _run(self, copy: Copy) -> None:
        try:
            await self._slots.acquire()
            try:
                published, image_checksum = await self._copy(copy)
            finally:
                self._slots.release()
        except CancelledError:
            return  # aborted, or the agent stops
        except RpcError as error:
            if not copy.is_abandoned:
                await self._discard(copy)
                await self._end(copy, failed(copy.status, TransferError.from_rpc(error)))
        except Exception:
            self._log.failure("{job_id}: the copy failed", job_id=copy.request.job_id)
            fault = TransferError(TransferFailure.INTERNAL, "the copy failed unexpectedly", "copy it again")
            await self._end(copy, failed(copy.status, fault))
        else:
            done = evolve(copy.status, image_checksum=image_checksum)
            await self._end(copy, downloaded(done, published))

    async def _copy(self, copy: Copy) -> tuple[PublishedTemplate, str | None]:
        """Copy and publish; return what was published, and the digest if it was computed now.

        Raises: RpcError that another attempt would not change.
        """
        request = copy.request
        for store in (request.source, request.store):
            await self._repeat(copy, partial(self._stores.ensure_mounted, store))
        found = await self._repeat(copy, lambda: self._find(request))
        if found.published is not None:
            return found.published, None
        await self._sweep_ended(request.store)
        self._step(copy, _begun(request))
        result = await self._repeat(copy, lambda: self._copy_bytes(copy))
        self._step(copy, "copied and verified; publishing")
        published = await self._repeat(copy, lambda: self._publish(copy, result))
        return published, result.checksum

    async def _copy_bytes(self, copy: Copy) -> StoreCopyResult:
        request = copy.request
        order = StoreCopyRequest(
            self._job(request),
            store_messages.mount_id(request.source),
            request.source_file,
            request.source_checksum,
            request.source_chain,
        )

        def progressed(params: Any) -> None:
            progress = msgspec.convert(params, CopyProgress)
            copy.status = evolve(
                copy.status,
                received_bytes=progress.copied_bytes,
                total_bytes=progress.total_bytes,
                waits_for_store=False,
            )
            self._notify(copy)

        result: StoreCopyResult = await self._stores.call(
            store_messages.COPY, order, StoreCopyResult, STALL_TIMEOUT_S, progressed
        )
        return result

    async def _publish(self, copy: Copy, result: StoreCopyResult) -> PublishedTemplate:
        request = copy.request
        order = PublishRequest(
            job=self._job(request),
            account_id=request.account_id,
            template_id=request.template_id,
            unique_name=request.unique_name,
            description=request.description,
            format=request.format,
            public=request.public,
            hvm=request.hvm,
            virtual_size_bytes=request.virtual_size_bytes,
            checksum=request.checksum or "",
        )
        published: PublishedTemplate = await self._stores.call(
            store_messages.PUBLISH, order, PublishedTemplate, PUBLISH_TIMEOUT_S
        )
        return published

    async def _find(self, request: CopyRequest) -> FindResult:
        mount_id = store_messages.mount_id(request.store)
        order = FindRequest(mount_id, request.job_id, request.account_id, request.template_id)
        found: FindResult = await self._stores.call(store_messages.FIND, order, FindResult)
        return found

    async def _repeat(self, copy: Copy, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call while a store is only late or busy: its server can come back."""

        def waits(error: RpcError) -> None:
            copy.status = evolve(copy.status, waits_for_store=True)
            self._notify(copy)

        return await retry_transient_errors(
            self._context.reactor,
            call,
            what=f"{copy.request.job_id}: copy",
            is_wanted=lambda: not copy.is_abandoned,
            on_wait=waits,
        )

    async def _discard(self, copy: Copy) -> None:
        try:
            await self._stores.call(store_messages.DISCARD, self._job(copy.request), Acknowledgement)
        except RpcError as error:
            self._log.warn(
                "{job_id}: its directory cannot be removed: {error}",
                job_id=copy.request.job_id,
                error=str(error),
            )

    async def _end(self, copy: Copy, status: DownloadStatus) -> None:
        copy.status, copy.running = status, None
        if status.error is not None and status.error.code == TransferFailure.STORE_NOT_MOUNTED.value:
            self._stores.mark_unmounted(copy.request.source)
            self._stores.mark_unmounted(copy.request.store)
        ended = [job_id for job_id, other in self._known.items() if not other.is_active]
        for job_id in ended[: max(0, len(ended) - REMEMBERED_COPIES)]:
            del self._known[job_id]
        try:
            await self._context.call_daemon(storage.TEMPLATE_FINISHED, status, result=Acknowledgement)
        except RpcError as error:
            self._log.warn(
                "{job_id}: the daemon rejects its outcome: {error}", job_id=status.job_id, error=str(error)
            )

    async def _wait_shortly(self, work: Deferred[None]) -> None:
        """Wait until `work` has ended, but not for long; it goes on."""
        ended: Deferred[None] = Deferred()

        def end(_: object = None) -> None:
            if not ended.called:
                ended.callback(None)

        timer = self._context.reactor.callLater(DISCARD_WAIT_S, end)
        work.addBoth(end)
        await ended
        if timer.active():
            timer.cancel()

    def _job(self, request: CopyRequest) -> JobKey:
        return JobKey(store_messages.mount_id(request.store), self._context.name, request.job_id)

    def _step(self, copy: Copy, text: str) -> None:
        copy.status = evolve(copy.status, steps=[*copy.status.steps, DownloadStep(text, time.time())])
        self._notify(copy)

    def _notify(self, copy: Copy) -> None:
        key = f"{storage.TEMPLATE_PROGRESS} {copy.request.job_id}"
        self._context.notify_daemon(storage.TEMPLATE_PROGRESS, copy.status, replaces=key)


def _begun(request: CopyRequest) -> str:
    if request.source_chain is None:
        return f"copying from {request.source.location}"
    return (
        f"reading a snapshot of {len(request.source_chain.snapshot_ids)} files on {request.source.location}"
    )
