# SPDX-License-Identifier: Apache-2.0
"""The SSVM's role inside the agent: takes orders from the daemon, hands the work over, and reports.

It holds the keys, so it touches no network but the control channel: fetch brings the bytes, root helpers touch
the store. A download's end is a call to the daemon that is repeated until it is answered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm import __version__
from systemvm.guest.context import Context
from systemvm.rpc.errors import RpcError
from systemvm.rpc.method import Call, MethodTable
from systemvm.rpc.peer import Peer
from systemvm.ssvm import fetch_messages, oneshot, store_messages
from systemvm.ssvm.failure import Code, TransferError
from systemvm.ssvm.fetch_link import FETCH, FetchLink
from systemvm.ssvm.fetch_messages import DeniedNetwork, Start
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.zone import denied_networks
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    Done,
    DownloadAbort,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    Store,
    StoreStats,
    TemplateDelete,
)

MOUNT_TIMEOUT_S = 150.0  # a first mount loads modules; the helper has its own, shorter ends
STORE_TIMEOUT_S = 60.0
DELETE_TIMEOUT_S = 110.0
PATIENCE_S = 25.0  # what a call that may take longer waits before it says so
START_DEADLINE_S = 25.0
STOP_DEADLINE_S = 90.0
REMEMBERED_JOBS = 512


@define
class _Job:
    request: DownloadRequest
    status: DownloadStatus
    instance: str = ""  # the fetch that has it
    restarts: int = 0


def install(context: Context, paths: Paths | None = None) -> StorageRole:
    """Add this role's methods to the agent; `paths` are others in tests."""
    role = StorageRole(context, paths or Paths())
    role.add_methods(context.methods)
    context.on_connected.append(role.daemon_connected)
    context.on_stop.append(role.stop)
    return role


class StorageRole:
    """The jobs of this SSVM as the agent knows them."""

    def __init__(self, context: Context, paths: Paths) -> None:
        self._context = context
        self._paths = paths
        self._jobs: dict[str, _Job] = {}
        self._mounting: dict[str, list[Deferred[None]]] = {}
        self._mounted: set[str] = set()
        self._log = Logger(namespace="systemvm.ssvm.role")
        told = MethodTable("systemvm agent, to fetch", __version__)
        roles = frozenset({FETCH.role})
        told.add(fetch_messages.PROGRESS, self._progressed, params=DownloadStatus, result=Done, roles=roles)
        told.add(fetch_messages.FINISHED, self._finished, params=DownloadStatus, result=Done, roles=roles)
        self._link = FetchLink(
            context.reactor, paths.fetch_socket, told, lambda: bool(self._active()), self._fetch_connected
        )

    def add_methods(self, methods: MethodTable) -> None:
        daemon = frozenset({Role.MANAGEMENT.value})
        for name, handler, params, result, deadline_s, summary in (
            (storage.STORAGE_SETUP, self.setup, Store, StoreStats, 180.0, "Mount a store; answers its size"),
            (storage.STORAGE_STATS, self.stats, Store, StoreStats, 60.0, "How full a store is"),
            (storage.TEMPLATE_DOWNLOAD, self.download, DownloadRequest, DownloadStatus, 60.0, "Get or start one"),
            (storage.TEMPLATE_ABORT, self.abort, DownloadAbort, Done, 120.0, "Stop one, leave nothing of it"),
            (storage.TEMPLATE_DELETE, self.delete, TemplateDelete, Done, 120.0, "Remove from the store"),
        ):  # fmt: skip
            methods.add(
                name,
                handler,
                params=params,
                result=result,
                roles=daemon,
                summary=summary,
                deadline_s=deadline_s,
            )

    # What the daemon asks.

    async def setup(self, call: Call, store: Store) -> StoreStats:
        """Mount a store, and remove what jobs that are no more have left on it."""
        mount_id = await self._mount(store)
        await self._link_if_any()
        keep = sorted({*self._active(), *self._link.found_job_ids})
        sweep = store_messages.Sweep(mount_id, self._context.name, keep)
        swept = await self._ask_store(store_messages.SWEEP, sweep, store_messages.Swept)
        if swept.removed:
            self._log.info("Removed what was left of {jobs}", jobs=", ".join(swept.removed))
        return await self.stats(call, store)

    async def stats(self, call: Call, store: Store) -> StoreStats:
        stats: StoreStats = await self._ask_store(
            store_messages.STATS, store_messages.Stats(store_messages.mount_id(store)), StoreStats
        )
        return stats

    async def download(self, call: Call, request: DownloadRequest) -> DownloadStatus:
        """Answer how a job is, and start it if there is none of this id."""
        known = self._jobs.get(request.job_id)
        if known is not None:
            return known.status
        await self._ensure_mounted(request.store)
        peer = await self._fetch()
        known = self._jobs.get(request.job_id)  # another call may have come meanwhile
        if known is not None:
            return known.status
        begun = DownloadStatus(request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS)
        job = _Job(request, begun, self._link.instance)
        self._jobs[request.job_id] = job
        try:
            await self._start(peer, job)
        except RpcError:
            self._jobs.pop(request.job_id, None)
            raise
        return job.status

    async def abort(self, call: Call, abort: DownloadAbort) -> Done:
        """Stop a job if it runs and forget it."""
        job = self._jobs.get(abort.job_id)
        if job is not None and not job.status.state.ended:
            peer = await self._fetch()
            await peer.call(fetch_messages.STOP, abort, result=Done, deadline_s=STOP_DEADLINE_S)
        self._jobs.pop(abort.job_id, None)
        return Done()

    async def delete(self, call: Call, order: TemplateDelete) -> Done:
        """Stop what still runs for a template, and remove it from its store."""
        await self.abort(call, DownloadAbort(order.job_id))
        await self._ensure_mounted(order.store)
        delete = store_messages.Delete(
            store_messages.mount_id(order.store), self._context.name, order.account_id, order.template_id
        )
        await self._ask_store(store_messages.DELETE, delete, Done, DELETE_TIMEOUT_S)
        return Done()

    async def daemon_connected(self, peer: Peer) -> None:
        """Say again how every running job is; ends that were not answered are still being repeated."""
        for job_id in self._active():
            self._notify(self._jobs[job_id].status)

    async def stop(self) -> None:
        self._link.stop()

    # What fetch tells.

    async def _progressed(self, call: Call, status: DownloadStatus) -> Done:
        job = self._jobs.get(status.job_id)
        if job is not None and not job.status.state.ended and not status.state.ended:
            job.status = status
            self._notify(status)
        return Done()

    async def _finished(self, call: Call, status: DownloadStatus) -> Done:
        if status.state.ended:
            self._end(status)
        return Done()

    async def _fetch_connected(self, peer: Peer, instance: str) -> None:
        """Hand over what runs; a fetch that was started anew gets each job once more, and then no more."""
        for job_id in self._active():
            job = self._jobs[job_id]
            if job.instance != instance:
                job.instance = instance
                job.restarts += 1
                if job.restarts > 1:
                    self._end(_died_twice(job.status))
                    continue
                self._log.warn("{job_id}: fetch died; it starts again from the beginning", job_id=job_id)
            try:
                await self._start(peer, job)
            except RpcError as error:
                if peer.closed:
                    return  # the next connection comes here again
                failed = TransferError.from_rpc(error).to_download_error()
                self._end(evolve(job.status, state=DownloadState.DOWNLOAD_ERROR, error=failed))

    # Parts.

    def _active(self) -> list[str]:
        return [job_id for job_id, job in self._jobs.items() if not job.status.state.ended]

    def _notify(self, status: DownloadStatus) -> None:
        key = f"{storage.TEMPLATE_PROGRESS} {status.job_id}"
        self._context.notify_daemon(storage.TEMPLATE_PROGRESS, status, replaces=key)

    def _end(self, status: DownloadStatus) -> None:
        job = self._jobs.get(status.job_id)
        if job is None or job.status.state.ended:
            return
        job.status = status
        if status.error is not None and status.error.code == Code.STORE_NOT_MOUNTED.value:
            self._mounted.discard(store_messages.mount_id(job.request.store))
        Deferred.fromCoroutine(self._tell_end(status))
        ended = [job_id for job_id, other in self._jobs.items() if other.status.state.ended]
        for job_id in ended[: max(0, len(ended) - REMEMBERED_JOBS)]:
            del self._jobs[job_id]

    async def _tell_end(self, status: DownloadStatus) -> None:
        try:
            await self._context.call_daemon(storage.TEMPLATE_FINISHED, status, result=Done)
        except RpcError as error:
            self._log.warn(
                "{job_id}: the daemon refuses its end: {error}", job_id=status.job_id, error=str(error)
            )

    async def _start(self, peer: Peer, job: _Job) -> None:
        start = Start(self._context.name, job.request, self._denied(job.request.store))
        status: DownloadStatus = await peer.call(
            fetch_messages.START,
            start,
            result=DownloadStatus,
            deadline_s=START_DEADLINE_S,
            request_id=job.request.request_id,
        )
        if status.state.ended:
            self._end(status)
        elif not job.status.state.ended:
            job.status = status

    def _denied(self, store: Store) -> list[DeniedNetwork]:
        return [*denied_networks(self._context.boot), DeniedNetwork(store.server, "a storage server")]

    async def _fetch(self) -> Peer:
        try:
            return await self._link.peer()
        except RpcError as error:
            hint = "systemctl status systemvm-fetch shows why"
            raise RpcError.refused(Code.BUSY.value, f"fetch does not answer: {error.message}", hint) from None

    async def _link_if_any(self) -> None:
        """Learn of jobs that have run since before this agent; without fetch there are none."""
        try:
            await self._link.peer()
        except RpcError as error:
            self._log.info("fetch is not there: {error}", error=str(error))

    async def _ensure_mounted(self, store: Store) -> None:
        if store_messages.mount_id(store) not in self._mounted:
            await self._mount(store, PATIENCE_S)

    async def _mount(self, store: Store, patience_s: float = MOUNT_TIMEOUT_S) -> str:
        """Mount a store. Many may wait for one mount, and it goes on when one of them gives up."""
        mount_id = store_messages.mount_id(store)
        waiter: Deferred[None] = Deferred()
        if mount_id in self._mounting:
            self._mounting[mount_id].append(waiter)
        else:
            self._mounting[mount_id] = [waiter]
            Deferred.fromCoroutine(self._run_mount(store, mount_id))
        waiter.addTimeout(patience_s, self._context.reactor)
        try:
            await waiter
        except DeferredTimeout:
            raise RpcError.refused(
                Code.MOUNT_FAILED.value,
                f"{store.server}:{store.path} is still being mounted",
                "ask again soon",
            ) from None
        return mount_id

    async def _run_mount(self, store: Store, mount_id: str) -> None:
        outcome: Failure | None = None
        try:
            await self._ask(
                self._paths.mount_socket,
                store_messages.MOUNT,
                store_messages.Mount(store),
                store_messages.Mounted,
                MOUNT_TIMEOUT_S,
            )
        except Exception:
            outcome = Failure()
            self._mounted.discard(mount_id)
        else:
            self._mounted.add(mount_id)
        for waiter in self._mounting.pop(mount_id):
            if not waiter.called:
                waiter.callback(outcome)

    async def _ask_store(
        self, method: str, params: Any, result: Any, timeout_s: float = STORE_TIMEOUT_S
    ) -> Any:
        return await self._ask(self._paths.store_socket, method, params, result, timeout_s)

    async def _ask(self, path: Path, method: str, params: Any, result: Any, timeout_s: float) -> Any:
        """Call a root helper from a thread: a store that hangs must not hang the heartbeat."""
        reactor = self._context.reactor
        answer, _ = await deferToThreadPool(
            reactor, reactor.getThreadPool(), oneshot.call, path, method, params, result, timeout_s
        )
        return answer


def _died_twice(status: DownloadStatus) -> DownloadStatus:
    error = TransferError(
        Code.WORKER_DIED,
        "fetch died twice during this download",
        "register the template again; the SSVM's journal may say why",
    )
    return evolve(status, state=DownloadState.DOWNLOAD_ERROR, error=error.to_download_error())
