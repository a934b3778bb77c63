# SPDX-License-Identifier: Apache-2.0
"""The agent's downloads with fakes of the root helpers, of fetch and of the daemon, which a test answers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.guest.context import AgentContext
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.downloads import DownloadManager
from systemvm.ssvm.fetch_messages import START, FetchStatus
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import FindResult, OpenSources, SourceServer
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    TEMPLATE_RESERVE,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    Store,
)

PROGRESS = DownloadState.DOWNLOAD_IN_PROGRESS
STORE = Store("10.12.0.2", "/export/secondary")


class PendingCalls:
    """Calls that wait until the test answers them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Deferred[Any]]] = []

    async def wait(self, method: str, params: Any) -> Any:
        answered: Deferred[Any] = Deferred()
        self.calls.append((method, params, answered))
        return await answered

    def names(self) -> list[str]:
        return [method for method, _, _ in self.calls]

    def answer(self, method: str, value: Any) -> None:
        """Answer the oldest pending call of this method."""
        waits = (deferred for name, _, deferred in self.calls if name == method and not deferred.called)
        deferred = next(waits)
        deferred.errback(value) if isinstance(value, Exception) else deferred.callback(value)


class FakeStores(PendingCalls):
    """The root helpers."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts_s: list[float] = []
        self.opened: list[SourceServer] = []

    async def ensure_mounted(self, store: Store) -> None:
        pass

    def mark_unmounted(self, store: Store) -> None:
        pass

    def bucket_of(self, store: Store) -> None:
        """No store is a bucket."""

    async def open_sources(self, order: OpenSources) -> None:
        self.opened = order.servers

    async def call(self, method: str, params: Any, result: Any, timeout_s: float = 60.0) -> Any:
        self.timeouts_s.append(timeout_s)
        return await self.wait(method, params)


class FakeFetch(PendingCalls):
    """A connection to fetch."""

    closed = False

    async def call(self, method: str, params: Any = None, **more: Any) -> Any:
        return await self.wait(method, params)


class FakeDaemon(PendingCalls):
    """The daemon's end of the control channel; what reports jobs is not recorded."""

    async def call(self, method: str, params: Any = None, **more: Any) -> Any:
        if method == TEMPLATE_RESERVE:
            return await self.wait(method, params)
        return Acknowledgement()

    def notify(self, method: str, params: Any = None, **more: Any) -> None:
        """Take progress."""


class FakeLink:
    """The agent's connection to fetch."""

    def __init__(self, reactor: Any, path: Any, methods: MethodTable, *callbacks: Any) -> None:
        self.fetch = FakeFetch()
        self.instance = "first"
        self.found_job_ids: list[str] = []

    async def peer(self) -> FakeFetch:
        return self.fetch


class Harness:
    """A DownloadManager with a fake store and a fake fetch."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stores = FakeStores()
        self.daemon = FakeDaemon()
        daemon: Any = self.daemon
        context = AgentContext(
            self.clock, GuestPaths(), "s-1-VM", Role.SSVM, {}, MethodTable("agent", "1"), {}, lambda: daemon
        )
        links: list[FakeLink] = []

        def link(*arguments: Any) -> Any:
            links.append(FakeLink(*arguments))
            return links[-1]

        fakes: Any = self.stores
        self.downloads = DownloadManager(context, Paths(), fakes, link)
        self.fetch = links[0].fetch

    def call(self, job_id: str = "job-1") -> Deferred[DownloadStatus]:
        return Deferred.fromCoroutine(self.downloads.get_or_start(request(job_id)))

    def begin(self, job_id: str = "job-1") -> None:
        """Start a job that fetch accepts."""
        self.begin_with(request(job_id))

    def begin_with(self, wanted: DownloadRequest) -> None:
        Deferred.fromCoroutine(self.downloads.get_or_start(wanted))
        self.stores.answer(store_messages.FIND, FindResult())
        self.fetch.answer(START, in_progress(wanted.job_id))


def request(job_id: str) -> DownloadRequest:
    return DownloadRequest(
        job_id, "r", 1, 2, "u", "d", "http://x.test/a.raw", ImageFormat.RAW, STORE, max_size_bytes=1 << 20
    )


def in_progress(job_id: str = "job-1") -> FetchStatus:
    return FetchStatus(DownloadStatus(job_id, PROGRESS))


def state_of(deferred: Deferred[DownloadStatus]) -> DownloadState:
    status = deferred.result
    assert isinstance(status, DownloadStatus), status
    return status.state


def error_of(deferred: Deferred[Any]) -> RpcError:
    failure = deferred.result
    assert isinstance(failure, Failure)
    deferred.addErrback(lambda _: None)
    assert isinstance(failure.value, RpcError)
    return failure.value
