# SPDX-License-Identifier: Apache-2.0
"""The downloads of this SSVM as its agent knows them: handed to fetch, published by the agent's own word.

The end of each is a call to the daemon that is repeated until it is answered. A fetch that dies takes its
jobs with it; each of them is started once more, from the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.guest.context import AgentContext
from systemvm.guest.version import VERSION
from systemvm.rpc.core.errors import DEADLINE, RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.service.single_flight import SingleFlight
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.fetch_connection import FETCH, FetchConnection
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch_messages import (
    FINISHED,
    PROGRESS,
    START,
    STOP,
    DeniedNetwork,
    FetchStatus,
    StartRequest,
)
from systemvm.ssvm.mover_messages import MoverResult
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import (
    FindRequest,
    FindResult,
    JobKey,
    PublishedTemplate,
    PublishRequest,
    SweepRequest,
)
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire import denied_networks, storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadError,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    DownloadStep,
    Store,
    StoreStats,
)
from systemvm.wire.transfer_failure import TransferFailure

START_DEADLINE_S = 25.0
STOP_DEADLINE_S = 90.0
#: Less than the daemon waits: a store that hangs is to be named, or the whole SSVM would count as slow.
FIND_TIMEOUT_S = 20.0
PUBLISH_TIMEOUT_S = 120.0
REMEMBERED_JOBS = 512
#: How many downloads may be on their way to fetch at a time; each has asked the store whether it is there.
MAX_STARTING = 16


@define
class _Download:
    request: DownloadRequest
    status: DownloadStatus
    instance: str = ""  # of the fetch that has it
    restarts: int = 0
    publishing: Deferred[None] | None = None
    abandoned: bool = False  # it is to be aborted: nothing of it is tried again


class DownloadManager:
    """Get or start, abort, and the news of both ends."""

    def __init__(
        self,
        context: AgentContext,
        paths: Paths,
        stores: StoreClient,
        link: Callable[..., FetchConnection] = FetchConnection,
    ) -> None:
        self._context = context
        self._stores = stores
        self._known: dict[str, _Download] = {}
        self._starting = SingleFlight[str]()
        self._aborting: set[str] = set()
        self._sweeps = SingleFlight[str]()  # by the store's mount
        self._log = Logger(namespace="systemvm.ssvm.agent.downloads")
        told = MethodTable("systemvm agent, to fetch", VERSION)
        roles = frozenset({FETCH.role})
        told.add(PROGRESS, self._progressed, params=DownloadStatus, result=Acknowledgement, roles=roles)
        told.add(FINISHED, self._finished, params=FetchStatus, result=Acknowledgement, roles=roles)
        self._link = link(
            context.reactor, paths.fetch_socket, told, lambda: bool(self._active()), self._fetch_connected
        )

    async def get_or_start(self, request: DownloadRequest) -> DownloadStatus:
        """How a job is; it is started if there is none of this id, and found if it was done before.

        Calls for a job that is being started join, and all get the answer. RpcError `busy` beyond
        `MAX_STARTING` of them.
        """
        job_id = request.job_id
        if job_id in self._known:
            return self._known[job_id].status
        if job_id not in self._starting and len(self._starting) >= MAX_STARTING:
            hint = f"{len(self._starting)} downloads wait for the store or for fetch; it is taken after them"
            raise RpcError.refused(TransferFailure.BUSY.value, "this SSVM is busy", hint)
        status: DownloadStatus = await self._starting.run(job_id, lambda: self._find_or_start(request))
        return status

    async def _find_or_start(self, request: DownloadRequest) -> DownloadStatus:
        """The job is this call's alone from its first line on: it was claimed in `_starting`."""
        job_id = request.job_id
        self._require_answering(request.store)
        await self._stores.require(request.store)
        mount_id = store_messages.mount_id(request.store)
        self._require_wanted(job_id)
        find = FindRequest(mount_id, job_id, request.account_id, request.template_id)
        found: FindResult = await self._stores.call(store_messages.FIND, find, FindResult, FIND_TIMEOUT_S)
        if found.published is not None:
            return _downloaded(DownloadStatus(job_id, DownloadState.DOWNLOADED), found.published)
        request_id = request.request_id
        self._log.info("{job_id}: taken on (request {request_id})", job_id=job_id, request_id=request_id)
        peer = await self._fetch()
        # a sweep that began before this job was known would take its directory for a leftover
        await self._sweeps.ended(mount_id)
        self._require_wanted(job_id)
        begun = DownloadStatus(job_id, DownloadState.DOWNLOAD_IN_PROGRESS)
        download = self._known[job_id] = _Download(request, begun, self._link.instance)
        try:
            await self._start(peer, download)
        except RpcError as error:
            if error.code == DEADLINE:  # fetch may have it: it stays known, and is asked about on
                Deferred.fromCoroutine(self._resume(peer, download))
            else:
                self._known.pop(job_id, None)
                raise
        return download.status

    async def abort(self, job_id: str) -> None:
        """Stop a job if it runs and forget it; nothing of it is left on the store then."""
        self._aborting.add(job_id)
        try:
            await self._starting.ended(job_id)
            await self._abort_known(job_id)
        finally:
            self._aborting.discard(job_id)

    async def _abort_known(self, job_id: str) -> None:
        download = self._known.get(job_id)
        if download is not None and not download.status.state.ended:
            download.abandoned = True
            if download.publishing is not None:  # too late to stop: wait for what can be deleted
                await _after(download.publishing)
            else:
                peer = await self._fetch()
                await peer.call(
                    STOP, DownloadAbort(job_id), result=Acknowledgement, deadline_s=STOP_DEADLINE_S
                )
        self._known.pop(job_id, None)

    async def used_job_ids(self) -> list[str]:
        """The jobs whose files are still wanted, those from before this agent's start among them."""
        try:
            await self._link.peer()
        except RpcError as error:
            self._log.info("fetch is not there: {error}", error=str(error))
        return sorted({*self._active(), *self._starting.running(), *self._link.found_job_ids})

    async def sweep(self, store: Store) -> StoreStats:
        """Remove what jobs that are no more have left on a store; answers how full it is."""
        mount_id = store_messages.mount_id(store)

        async def sweep() -> StoreStats:
            order = SweepRequest(mount_id, self._context.name, await self.used_job_ids())
            stats: StoreStats = await self._stores.call(store_messages.SWEEP, order, StoreStats)
            return stats

        stats: StoreStats = await self._sweeps.run(mount_id, sweep)
        return stats

    def statuses(self) -> list[DownloadStatus]:
        """Every download that is remembered, as it is now."""
        return [known.status for known in self._known.values()]

    def resend_statuses(self) -> None:
        """Say how every running job is; ends that were not answered are still being repeated."""
        for job_id in self._active():
            self._notify(self._known[job_id].status)

    def stop(self) -> None:
        self._link.stop()

    # What fetch tells.

    async def _progressed(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        download = self._known.get(status.job_id)
        if download is not None and not download.status.state.ended and not status.state.ended:
            download.status = status
            self._notify(status)
        return Acknowledgement()

    async def _finished(self, call: Call, fetched: FetchStatus) -> Acknowledgement:
        self._take(fetched)
        return Acknowledgement()

    async def _fetch_connected(self, peer: Peer, instance: str) -> None:
        active = [self._known[job_id] for job_id in self._active()]
        # the others first: one that waits for its store would keep them from a place until that shows
        for download in sorted(active, key=lambda each: each.status.waits_for_store):
            job_id = download.request.job_id
            if download.publishing is not None or download.status.state.ended:
                continue
            if download.instance != instance:
                download.instance = instance
                download.restarts += 1
                if download.restarts > 1:
                    self._fail(download, _died_twice())
                    continue
                self._log.warn("{job_id}: fetch died; it starts again from the beginning", job_id=job_id)
            await self._resume(peer, download)

    async def _resume(self, peer: Peer, download: _Download) -> None:
        """Have fetch say how a job is, or begin it; lateness is waited out."""

        def is_wanted() -> bool:
            going = not (download.status.state.ended or download.abandoned or download.publishing)
            return going and not peer.closed

        try:
            await retry_transient_errors(
                self._context.reactor,
                lambda: self._start(peer, download),
                what=f"{download.request.job_id}: fetch",
                is_wanted=is_wanted,
            )
        except RpcError as error:
            if is_wanted():  # else the next connection comes here again, or nobody needs to
                self._fail(download, TransferError.from_rpc(error))

    # Parts.

    def _require_wanted(self, job_id: str) -> None:
        if job_id in self._aborting:
            raise RpcError.refused(TransferFailure.ABORTED.value, "the download was aborted before it began")

    def _require_answering(self, store: Store) -> None:
        """No more calls for a store while others wait for it: theirs show when it is there again."""
        known = self._known.values()
        waiting = sum(each.status.waits_for_store and each.request.store == store for each in known)
        if waiting:
            raise RpcError.refused(
                TransferFailure.STORE_HANGS.value,
                f"{store.server}:{store.path} is busy or does not answer: {waiting} downloads wait for it",
                "check the NFS server and the storage network; all goes on by itself once it answers",
            )

    async def _fetch(self) -> Peer:
        try:
            return await self._link.peer()
        except RpcError as error:
            hint = "systemctl status systemvm-fetch shows why"
            raise RpcError.refused(
                TransferFailure.BUSY.value, f"fetch does not answer: {error.message}", hint
            ) from None

    async def _start(self, peer: Peer, download: _Download) -> None:
        request = download.request
        denied = [
            *(
                DeniedNetwork(str(net), what)
                for net, what in denied_networks.of_zone(self._context.boot).items()
            ),
            DeniedNetwork(request.store.server, "a storage server"),
            *(DeniedNetwork(cidr, denied_networks.OWN_ADDRESS) for cidr in request.denied_networks),
        ]
        fetched: FetchStatus = await peer.call(
            START,
            StartRequest(self._context.name, request, denied),
            result=FetchStatus,
            deadline_s=START_DEADLINE_S,
            request_id=request.request_id,
        )
        self._take(fetched)

    def _take(self, fetched: FetchStatus) -> None:
        """Act on what fetch says of a job."""
        download = self._known.get(fetched.status.job_id)
        if download is None or download.status.state.ended or download.publishing is not None:
            return
        if fetched.status.state.ended:
            self._end(download, fetched.status)
            return
        download.status = fetched.status
        if fetched.moved is not None:
            publishing = Deferred.fromCoroutine(self._publish(download, fetched.moved))
            if not publishing.called:
                download.publishing = publishing

    async def _publish(self, download: _Download, moved: MoverResult) -> None:
        request = download.request
        publishes = DownloadStep("received and verified; publishing", time.time())
        download.status = evolve(download.status, steps=[*download.status.steps, publishes])
        job = JobKey(store_messages.mount_id(request.store), self._context.name, request.job_id)
        order = PublishRequest(
            job=job,
            account_id=request.account_id,
            template_id=request.template_id,
            unique_name=request.unique_name,
            description=request.description,
            format=request.format,
            public=request.public,
            hvm=request.hvm,
            virtual_size_bytes=moved.virtual_size_bytes,
            checksum=moved.checksum,
        )
        try:
            published = await self._publish_or_find(download, order)
        except RpcError as error:
            await self._discard(job)
            self._fail(download, TransferError.from_rpc(error))
        else:
            self._end(download, _downloaded(download.status, published))

    async def _publish_or_find(self, download: _Download, order: PublishRequest) -> PublishedTemplate:
        """Publish; a store that is late or busy is asked again, and first whether it has done it."""
        job = order.job
        find = FindRequest(job.mount_id, job.job_id, order.account_id, order.template_id)
        was_late = False

        async def publish() -> PublishedTemplate:
            if was_late:
                found: FindResult = await self._stores.call(store_messages.FIND, find, FindResult)
                if found.published is not None:
                    return found.published
            published: PublishedTemplate = await self._stores.call(
                store_messages.PUBLISH, order, PublishedTemplate, PUBLISH_TIMEOUT_S
            )
            return published

        def late(error: RpcError) -> None:
            nonlocal was_late
            was_late = True
            download.status = evolve(download.status, waits_for_store=True)
            self._notify(download.status)

        return await retry_transient_errors(
            self._context.reactor,
            publish,
            what=f"{job.job_id}: publishing",
            is_wanted=lambda: not download.abandoned,
            on_wait=late,
        )

    async def _discard(self, job: JobKey) -> None:
        try:
            await self._stores.call(store_messages.DISCARD, job, Acknowledgement)
        except RpcError as error:
            self._log.warn(
                "{job_id}: its directory is still there: {error}", job_id=job.job_id, error=str(error)
            )

    def _fail(self, download: _Download, error: TransferError) -> None:
        self._end(download, _failed(download.status, error.to_download_error()))

    def _end(self, download: _Download, status: DownloadStatus) -> None:
        download.status = status
        if status.error is not None and status.error.code == TransferFailure.STORE_NOT_MOUNTED.value:
            self._stores.forget(download.request.store)
        Deferred.fromCoroutine(self._tell_end(status))
        ended = [job_id for job_id, other in self._known.items() if other.status.state.ended]
        for job_id in ended[: max(0, len(ended) - REMEMBERED_JOBS)]:
            del self._known[job_id]

    async def _tell_end(self, status: DownloadStatus) -> None:
        try:
            await self._context.call_daemon(storage.TEMPLATE_FINISHED, status, result=Acknowledgement)
        except RpcError as error:
            self._log.warn(
                "{job_id}: the daemon refuses its end: {error}", job_id=status.job_id, error=str(error)
            )

    def _notify(self, status: DownloadStatus) -> None:
        key = f"{storage.TEMPLATE_PROGRESS} {status.job_id}"
        self._context.notify_daemon(storage.TEMPLATE_PROGRESS, status, replaces=key)

    def _active(self) -> list[str]:
        return [job_id for job_id, known in self._known.items() if not known.status.state.ended]


async def _after(running: Deferred[None]) -> None:
    """Wait for what others wait for too."""
    done: Deferred[None] = Deferred()
    running.addCallback(lambda _: done.callback(None))
    await done


def _downloaded(status: DownloadStatus, published: PublishedTemplate) -> DownloadStatus:
    return evolve(
        status,
        state=DownloadState.DOWNLOADED,
        waits_for_store=False,
        install_path=published.install_path,
        physical_size_bytes=published.size_bytes,
        virtual_size_bytes=published.virtual_size_bytes,
        checksum=published.checksum,
    )


def _failed(status: DownloadStatus, error: DownloadError) -> DownloadStatus:
    return evolve(status, state=DownloadState.DOWNLOAD_ERROR, error=error, waits_for_store=False)


def _died_twice() -> TransferError:
    return TransferError(
        TransferFailure.WORKER_DIED,
        "fetch died twice during this download",
        "retry the template; the SSVM's journal may say why",
    )
