# SPDX-License-Identifier: Apache-2.0
"""Copies between stores by the agent: one at a time for each job, late stores, aborts, two at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.guest.context import AgentContext
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.copies import DISCARD_WAIT_S, MAX_RUNNING, CopyManager
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.store_messages import (
    CopyProgress,
    FindResult,
    PublishedTemplate,
    PublishRequest,
    StoreCopyRequest,
    StoreCopyResult,
)
from systemvm.ssvm.store_retry import LAST_S
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    CopyRequest,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    PublishedFile,
    Store,
)

SOURCE, TARGET = Store("10.12.0.2", "/a"), Store("10.12.0.3", "/b")
PUBLISHED = PublishedTemplate("template/tmpl/2/7/x.qcow2", 1000, 4096, "{MD5}00")
COPIED = StoreCopyResult(1000, "{SHA-256}ab")


class FakeStores:
    """The root helpers: each call waits until the test answers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Deferred[Any], Callable[[Any], None] | None]] = []
        self.mounted: list[Store] = []

    async def ensure_mounted(self, store: Store) -> None:
        self.mounted.append(store)

    def mark_unmounted(self, store: Store) -> None:
        self.mounted.remove(store)

    async def call(
        self, method: str, params: Any, result: Any, timeout_s: float = 60.0, on_progress: Any = None
    ) -> Any:
        answered: Deferred[Any] = Deferred()
        self.calls.append((method, params, answered, on_progress))
        return await answered

    def names(self) -> list[str]:
        return [method for method, *_ in self.calls]

    def answer(self, method: str, value: Any) -> Any:
        """Answer the oldest pending call of this method; return its parameters."""
        params, deferred = next((p, d) for name, p, d, _ in self.calls if name == method and not d.called)
        deferred.errback(value) if isinstance(value, Exception) else deferred.callback(value)
        return params


class FakeContext:
    """The agent's side of the connection to the daemon."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.name = "s-1-VM"
        self.reported: list[DownloadStatus] = []
        self.ended: list[DownloadStatus] = []

    def notify_daemon(self, method: str, params: Any, replaces: str | None = None) -> None:
        assert method == storage.TEMPLATE_PROGRESS
        self.reported.append(params)

    async def call_daemon(self, method: str, params: Any, result: Any) -> Acknowledgement:
        assert method == storage.TEMPLATE_FINISHED
        self.ended.append(params)
        return Acknowledgement()


class Harness:
    def __init__(self) -> None:
        self.stores = FakeStores()
        self.context = FakeContext()
        self.clock, self.reported, self.ended = (
            self.context.reactor,
            self.context.reported,
            self.context.ended,
        )
        context, stores = cast(AgentContext, self.context), cast(StoreClient, self.stores)
        self.copies = CopyManager(context, stores, self._no_sweep)

    async def _no_sweep(self, store: Store) -> None:
        pass

    def start(self, job_id: str = "job-1") -> DownloadStatus:
        return self.copies.get_or_start(order(job_id))


def order(job_id: str) -> CopyRequest:
    return CopyRequest(
        job_id, "r", 7, 2, "2-7-u", "d", ImageFormat.QCOW2, SOURCE, PublishedFile(1, 204, "x.qcow2"),
        TARGET, 4096, "{SHA-256}ab", "{MD5}00",
    )  # fmt: skip


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_copy_is_read_verified_published_and_reported(harness: Harness) -> None:
    assert harness.start().state is DownloadState.DOWNLOAD_IN_PROGRESS
    assert harness.stores.mounted == [SOURCE, TARGET]
    harness.stores.answer(store_messages.FIND, FindResult())
    *_, on_progress = harness.stores.calls[-1]
    assert on_progress is not None
    on_progress(msgspec.to_builtins(CopyProgress(250, 1000)))
    assert harness.reported[-1].percent == 25
    asked = harness.stores.answer(store_messages.COPY, COPIED)
    assert isinstance(asked, StoreCopyRequest)
    assert (asked.source, asked.checksum) == (PublishedFile(1, 204, "x.qcow2"), "{SHA-256}ab")
    assert asked.job.mount_id == store_messages.mount_id(TARGET)
    assert asked.source_mount_id == store_messages.mount_id(SOURCE)
    publish = harness.stores.answer(store_messages.PUBLISH, PUBLISHED)
    assert isinstance(publish, PublishRequest)
    assert (publish.account_id, publish.template_id, publish.checksum) == (2, 7, "{MD5}00")
    [end] = harness.ended
    assert (end.state, end.install_path) == (DownloadState.DOWNLOADED, PUBLISHED.install_path)
    assert end.image_checksum == "{SHA-256}ab"
    assert harness.start() == end, "the same job answers its end"
    assert harness.copies.active_job_ids() == []


def test_two_orders_of_one_job_copy_once(harness: Harness) -> None:
    harness.start()
    harness.start()
    assert harness.stores.names() == [store_messages.FIND]


def test_what_an_earlier_agent_has_published_is_not_copied_again(harness: Harness) -> None:
    harness.start()
    harness.stores.answer(store_messages.FIND, FindResult(PUBLISHED))
    assert harness.ended[0].state is DownloadState.DOWNLOADED
    assert store_messages.COPY not in harness.stores.names()


def test_a_store_that_does_not_answer_is_called_again(harness: Harness) -> None:
    harness.start()
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.stores.answer(store_messages.COPY, RpcError.refused("store_hangs", "no answer"))
    assert harness.reported[-1].waits_for_store
    assert harness.ended == []
    harness.clock.advance(LAST_S)
    harness.stores.answer(store_messages.COPY, COPIED)
    harness.stores.answer(store_messages.PUBLISH, PUBLISHED)
    assert harness.ended[0].state is DownloadState.DOWNLOADED


def test_a_final_failure_leaves_nothing_and_is_reported(harness: Harness) -> None:
    harness.start()
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.stores.answer(store_messages.COPY, RpcError.refused("checksum_mismatch", "differs", "look"))
    harness.stores.answer(store_messages.DISCARD, Acknowledgement())
    [end] = harness.ended
    assert (end.state, end.error and end.error.code) == (DownloadState.DOWNLOAD_ERROR, "checksum_mismatch")


def test_an_abort_closes_the_call_and_removes_the_directory(harness: Harness) -> None:
    harness.start()
    harness.stores.answer(store_messages.FIND, FindResult())
    copying = harness.stores.calls[-1][2]
    aborted = Deferred.fromCoroutine(harness.copies.abort("job-1"))
    assert copying.called, "its helper is killed with the connection"
    harness.stores.answer(store_messages.DISCARD, Acknowledgement())
    assert aborted.called
    assert (harness.ended, harness.copies.statuses()) == ([], [])


def test_a_store_that_hangs_does_not_delay_an_abort(harness: Harness) -> None:
    harness.start()
    harness.stores.answer(store_messages.FIND, FindResult())
    copying = harness.stores.calls[-1][2]
    aborted = Deferred.fromCoroutine(harness.copies.abort("job-1"))
    assert copying.called, "its helper is killed with the connection"
    harness.clock.advance(DISCARD_WAIT_S)
    assert aborted.called
    assert harness.copies.statuses() == []
    harness.stores.answer(store_messages.DISCARD, Acknowledgement())
    assert harness.ended == []


def test_no_more_than_two_copies_run_at_a_time(harness: Harness) -> None:
    for number in range(MAX_RUNNING + 1):
        harness.start(f"job-{number}")
    assert harness.stores.names() == [store_messages.FIND] * MAX_RUNNING
    assert len(harness.copies.active_job_ids()) == MAX_RUNNING + 1
    harness.stores.answer(store_messages.FIND, FindResult(PUBLISHED))
    assert harness.stores.names() == [store_messages.FIND] * (MAX_RUNNING + 1)
