# SPDX-License-Identifier: Apache-2.0
"""The downloads and uploads of this SSVM as its agent knows them: fetch transfers, the agent has published.

A fetch that dies takes its jobs with it; the next one continues them from their journals on the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.guest.context import AgentContext
from systemvm.guest.version import VERSION
from systemvm.rpc.core.errors import DEADLINE, RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.service.single_flight import SingleFlight
from systemvm.ssvm.agent.download import Download, downloaded, fetch_died_twice
from systemvm.ssvm.agent.download_ends import DownloadEnds
from systemvm.ssvm.agent.fetch_connection import FETCH, FetchConnection
from systemvm.ssvm.agent.fetch_orders import FetchOrders
from systemvm.ssvm.agent.open_sources import OpenedSources
from systemvm.ssvm.agent.publisher import Publisher
from systemvm.ssvm.agent.quota import AccountQuota
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.agent.store_sweeps import StoreSweeps
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch_messages import (
    FINISHED,
    PROGRESS,
    RESERVE,
    STOP,
    FetchStatus,
)
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    CopyRequest,
    DownloadAbort,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    QuotaReservation,
    Store,
)
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import UploadRequest

START_DEADLINE_S = 25.0
STOP_DEADLINE_S = 90.0
REMEMBERED_JOBS = 512
#: How many downloads can be between the first call of the store and their start at fetch.
MAX_STARTING = 16


class DownloadManager:
    """Starts, aborts and reports downloads; `sweeps` spare those that run or start."""

    def __init__(
        self,
        context: AgentContext,
        paths: Paths,
        stores: StoreClient,
        connection: Callable[..., FetchConnection] = FetchConnection,
        other_jobs: Callable[[], Iterable[str]] = tuple,  # that have directories on stores, too
        opened: OpenedSources | None = None,
        on_end: Callable[[DownloadStatus], None] = lambda status: None,
    ) -> None:
        self._context = context
        self._stores = stores
        self._other_jobs = other_jobs
        self._opened = opened or OpenedSources(context.boot, stores)
        self._orders = FetchOrders(context.name, context.boot, stores, self._opened)
        self._on_end = on_end
        quota = AccountQuota(context)
        self._publisher = Publisher(context.reactor, stores, context.name)
        self._ends = DownloadEnds(context, stores, self._opened, quota, self._publisher, self._ended)
        self.sweeps = StoreSweeps(stores, context.name, self.used_job_ids)
        self._known: dict[str, Download] = {}
        self._starting = SingleFlight[str]()
        self._aborting: set[str] = set()
        self._log = Logger(namespace="systemvm.ssvm.agent.downloads")
        methods = MethodTable("systemvm agent, to fetch", VERSION)
        roles = frozenset({FETCH.role})
        methods.add(PROGRESS, self._progressed, params=DownloadStatus, result=Acknowledgement, roles=roles)
        methods.add(FINISHED, self._finished, params=FetchStatus, result=Acknowledgement, roles=roles)
        methods.add(RESERVE, quota.pass_on, params=QuotaReservation, result=Acknowledgement, roles=roles)
        self._connection = connection(
            context.reactor, paths.fetch_socket, methods, lambda: bool(self._active()), self._resume_all
        )

    async def get_or_start(
        self, request: DownloadRequest | UploadRequest, copy: CopyRequest | None = None
    ) -> DownloadStatus:
        """Return the status of a job; start it when its id is new, and find it when it was published before.

        `copy` is what the request was made of, if it is a copy.
        Calls for a job that is being started join, and all receive the answer.

        Raises: RpcError `busy` when `MAX_STARTING` others are being started, and those of store and fetch.
        """
        job_id = request.job_id
        known = self._known.get(job_id)
        if known is not None and _has_other_source(known, request):
            await self._abort_known(job_id)  # what it waits for is not on any store any more
            known = None
        if known is not None:
            if isinstance(request, DownloadRequest):
                await self._renew_download(known, request)
            elif request != known.request:
                await self._renew(known, request)
            return known.status
        if job_id not in self._starting and len(self._starting) >= MAX_STARTING:
            hint = f"wait: {len(self._starting)} downloads are being started before it"
            raise RpcError.refused(TransferFailure.BUSY, "this SSVM is busy", hint)
        status: DownloadStatus = await self._starting.run(job_id, lambda: self._find_or_start(request, copy))
        return status

    async def _renew_download(self, download: Download, request: DownloadRequest) -> None:
        """Have fetch receive at other rates or by another link than it was given; it can have lost the job.

        One that waits for its source begins again: the daemon repeats its request when that is back.
        """
        known = download.request
        if not isinstance(known, DownloadRequest) or not download.is_at_fetch:
            return
        renewed = evolve(known, rates=request.rates)
        if request.source_server is not None and request.content_id == known.content_id:
            renewed = evolve(
                renewed,
                url=request.url,
                source_server=request.source_server,
                source_ca_pem=request.source_ca_pem,
            )
            await self._opened.open_for(renewed)
        if renewed != known or download.status.waits_for_source:
            await self._renew(download, renewed)

    async def _renew(self, download: Download, request: DownloadRequest | UploadRequest) -> None:
        """Have fetch take what has changed in a request: rates, a link, or when an upload's URL expires."""
        download.request = request
        if not download.is_at_fetch:
            return
        try:
            await self._start(await self._fetch(), download)
        except RpcError as error:
            self._log.info("{job_id}: other settings: {error}", job_id=request.job_id, error=str(error))

    async def renew_keys(self, store: Store) -> None:
        """Have fetch use the present keys of a bucket for the jobs that write to it or read from it."""
        for download in [self._known[job_id] for job_id in self._active()]:
            if not download.is_at_fetch or not download.uses(store):
                continue
            try:
                await self._start(await self._fetch(), download)
            except RpcError as error:  # the next fetch gets them anyway
                job_id = download.request.job_id
                self._log.info("{job_id}: keeps its keys: {error}", job_id=job_id, error=str(error))

    async def fetch(self) -> Peer:
        """Return the connected fetch.

        Raises: RpcError `busy` when it cannot be connected: systemd starts it again.
        """
        return await self._fetch()

    async def _find_or_start(
        self, request: DownloadRequest | UploadRequest, copy: CopyRequest | None
    ) -> DownloadStatus:
        """Only one call for a job is here at a time: it is claimed in `_starting`."""
        job_id = request.job_id
        self._check_store_not_blocked(request.store)
        for store in (request.store, *([] if copy is None else [copy.source])):
            await self._stores.ensure_mounted(store)
        self._check_not_aborting(job_id)
        published = await self._publisher.find(request)
        if published is not None:
            return downloaded(DownloadStatus(job_id, DownloadState.DOWNLOADED), published)
        if isinstance(request, DownloadRequest):
            await self._opened.open_for(request)
        request_id = request.request_id
        self._log.info("{job_id}: accepted (request {request_id})", job_id=job_id, request_id=request_id)
        peer = await self._fetch()
        # a sweep that began before this job was known would remove its directory as a leftover
        await self.sweeps.ended(request.store)
        self._check_not_aborting(job_id)
        status = DownloadStatus(job_id, DownloadState.DOWNLOAD_IN_PROGRESS)
        download = self._known[job_id] = Download(request, status, copy, self._connection.instance)
        try:
            await self._start(peer, download)
        except RpcError as error:
            if error.code == DEADLINE:  # fetch can have it: it stays known, and the call is repeated
                Deferred.fromCoroutine(self._resume(peer, download))
            else:
                self._known.pop(job_id, None)
                self._opened.close_for(job_id)
                raise
        return download.status

    async def abort(self, job_id: str) -> None:
        """Stop a job if it runs, and forget it; afterwards nothing of it is left on the store."""
        self._aborting.add(job_id)
        try:
            await self._starting.wait_until_ended(job_id)
            await self._abort_known(job_id)
        finally:
            self._aborting.discard(job_id)

    async def _abort_known(self, job_id: str) -> None:
        download = self._known.get(job_id)
        if download is not None and download.is_active:
            download.is_abandoned = True
            if download.publishing is not None:  # too late to stop: wait for something that can be deleted
                await _wait_for(download.publishing)
            else:
                peer = await self._fetch()
                await peer.call(
                    STOP, DownloadAbort(job_id), result=Acknowledgement, deadline_s=STOP_DEADLINE_S
                )
        self._known.pop(job_id, None)
        self._opened.close_for(job_id)

    async def used_job_ids(self) -> list[str]:
        """Return the jobs whose files are in use, those from before this agent's start among them."""
        try:
            await self._connection.peer()
        except RpcError as error:
            self._log.info("fetch is not connected: {error}", error=str(error))
        found = {*self._active(), *self._starting.running(), *self._connection.found_job_ids}
        return sorted(found | set(self._other_jobs()))

    def status_of(self, job_id: str) -> DownloadStatus | None:
        known = self._known.get(job_id)
        return None if known is None else known.status

    def statuses(self) -> list[DownloadStatus]:
        """Return the present status of every download that is remembered."""
        return [known.status for known in self._known.values()]

    def resend_statuses(self) -> None:
        """Send the status of every running job; ends without an acknowledgement are being repeated anyway."""
        for job_id in self._active():
            self._ends.notify(self._known[job_id].status)

    def stop(self) -> None:
        self._connection.stop()

    # ---- from fetch ----------------------------------------------------------------------------------------

    async def _progressed(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        download = self._known.get(status.job_id)
        if download is not None and download.is_active and not status.state.ended:
            download.status = status
            self._ends.notify(status)
        return Acknowledgement()

    async def _finished(self, call: Call, fetched: FetchStatus) -> Acknowledgement:
        self._apply(fetched)
        return Acknowledgement()

    async def _resume_all(self, peer: Peer, instance: str) -> None:
        """Hand all running jobs to a fetch that has just connected."""
        active = [self._known[job_id] for job_id in self._active()]
        # those that wait for their store last: each has a place until fetch notices that it waits
        for download in sorted(active, key=lambda each: each.status.waits_for_store):
            if not download.is_at_fetch:
                continue
            if download.instance != instance:
                if not download.restart(instance):
                    await self._publisher.discard(download.request)
                    self._ends.fail(download, fetch_died_twice())
                    continue
                self._log.warn("{job_id}: fetch died; the next one continues", job_id=download.request.job_id)
            await self._resume(peer, download)

    async def _resume(self, peer: Peer, download: Download) -> None:
        """Have fetch report on a job, or begin it; repeated while fetch is only late."""

        def is_wanted() -> bool:
            return download.is_at_fetch and not download.is_abandoned and not peer.closed

        try:
            await retry_transient_errors(
                self._context.reactor,
                lambda: self._start(peer, download),
                what=f"{download.request.job_id}: fetch",
                is_wanted=is_wanted,
            )
        except RpcError as error:
            if is_wanted():  # otherwise the next connection repeats it, or it is not needed
                self._ends.fail(download, TransferError.from_rpc(error))

    async def _fetch(self) -> Peer:
        try:
            return await self._connection.peer()
        except RpcError as error:
            raise RpcError.refused(
                TransferFailure.BUSY,
                f"fetch does not answer: {error.message}",
                'run "systemctl status systemvm-fetch" in the SSVM',
            ) from None

    async def _start(self, peer: Peer, download: Download) -> None:
        request = download.request
        method, order = self._orders.call_for(download)
        fetched: FetchStatus = await peer.call(
            method, order, result=FetchStatus, deadline_s=START_DEADLINE_S, request_id=request.request_id
        )
        self._apply(fetched)

    def _apply(self, fetched: FetchStatus) -> None:
        """Take the status that fetch reports; begin to publish when all bytes are there."""
        download = self._known.get(fetched.status.job_id)
        if download is None or not download.is_at_fetch:
            return
        if fetched.status.state.ended:
            self._ends.end(download, fetched.status)
            return
        download.status = fetched.status
        if fetched.moved is not None:
            publishing = Deferred.fromCoroutine(self._ends.publish(download, fetched.moved))
            if not publishing.called:
                download.publishing = publishing

    def _ended(self, status: DownloadStatus) -> None:
        """Pass an end on, and forget the oldest downloads that have ended."""
        self._on_end(status)
        ended = [job_id for job_id, other in self._known.items() if not other.is_active]
        for job_id in ended[: max(0, len(ended) - REMEMBERED_JOBS)]:
            del self._known[job_id]

    # ---- checks --------------------------------------------------------------------------------------------

    def _active(self) -> list[str]:
        return [job_id for job_id, known in self._known.items() if known.is_active]

    def _check_not_aborting(self, job_id: str) -> None:
        if job_id in self._aborting:
            raise RpcError.refused(TransferFailure.ABORTED, "the download was aborted before it began")

    def _check_store_not_blocked(self, store: Store) -> None:
        """No further calls for a store that others wait for: theirs show when it answers again."""
        waiting = sum(
            each.status.waits_for_store and each.request.store == store for each in self._known.values()
        )
        if waiting:
            raise RpcError.refused(
                TransferFailure.STORE_HANGS,
                f"{store.location} is busy or does not answer: {waiting} downloads wait for it",
                "check the NFS server and the storage network; downloads continue once it answers",
            )


def _has_other_source(known: Download, request: DownloadRequest | UploadRequest) -> bool:
    """Return whether a job that waits for its source is to have another file now."""
    return (
        known.is_at_fetch
        and known.status.waits_for_source
        and isinstance(known.request, DownloadRequest)
        and isinstance(request, DownloadRequest)
        and request.content_id != known.request.content_id
    )


async def _wait_for(running: Deferred[None]) -> None:
    """Wait for a Deferred that others wait for, too."""
    done: Deferred[None] = Deferred()
    running.addCallback(lambda _: done.callback(None))
    await done
