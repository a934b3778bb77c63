# SPDX-License-Identifier: Apache-2.0
"""Downloads of the agent: a job is started once, with late stores, late fetch and aborts."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from systemvm.management.templates.ssvm_calls import CALL_DEADLINE_S
from systemvm.rpc.core.errors import BUSY, DEADLINE, METHOD_NOT_FOUND, RpcError
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.downloads import MAX_STARTING
from systemvm.ssvm.fetch_messages import START, STOP, FetchStatus
from systemvm.ssvm.mover_messages import MoverResult
from systemvm.ssvm.store_messages import FindResult, PublishedTemplate, SourceServer
from systemvm.ssvm.store_retry import LAST_S
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.source_networks import SsvmAddress
from systemvm.wire.storage import (
    TEMPLATE_RESERVE,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    QuotaReservation,
    StoreStats,
)
from unit.ssvm.agent.download_harness import (
    PROGRESS,
    STORE,
    FakeFetch,
    Harness,
    error_of,
    in_progress,
    request,
    state_of,
)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_two_calls_for_one_job_find_and_start_it_once(harness: Harness) -> None:
    first, second = harness.call(), harness.call()
    assert harness.stores.names() == [store_messages.FIND]
    harness.stores.answer(store_messages.FIND, FindResult())
    third = harness.call()
    assert harness.fetch.names() == [START]
    harness.fetch.answer(START, in_progress())
    assert [state_of(each) for each in (first, second, third)] == [PROGRESS] * 3
    assert (harness.stores.names(), harness.fetch.names()) == ([store_messages.FIND], [START])


def test_a_failed_start_lets_the_next_one_begin(harness: Harness) -> None:
    first, second = harness.call(), harness.call()
    refusal = RpcError.refused("busy", "this SSVM is busy")
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.fetch.answer(START, refusal)
    assert [error_of(each).reason for each in (first, second)] == ["busy", "busy"]
    harness.begin()
    assert [status.state for status in harness.downloads.statuses()] == [PROGRESS]


def test_a_find_that_fails_lets_the_next_one_begin(harness: Harness) -> None:
    first = harness.call()
    harness.stores.answer(store_messages.FIND, RpcError(DEADLINE, "store.sock did not answer"))
    assert error_of(first).code == DEADLINE
    again = harness.call()
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.fetch.answer(START, in_progress())
    assert state_of(again) is PROGRESS


def test_the_next_call_joins_the_start_of_a_disconnected_caller(harness: Harness) -> None:
    first = harness.call()
    first.addErrback(lambda _: None)
    first.cancel()
    second = harness.call()
    assert harness.stores.names() == [store_messages.FIND]
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.fetch.answer(START, in_progress())
    assert state_of(second) is PROGRESS


def test_an_abort_while_it_starts_leaves_nothing_running(harness: Harness) -> None:
    started = harness.call()
    aborted = Deferred.fromCoroutine(harness.downloads.abort("job-1"))
    assert not aborted.called
    harness.stores.answer(store_messages.FIND, FindResult())
    assert error_of(started).reason == "aborted"
    assert aborted.called
    assert (harness.fetch.names(), harness.downloads.statuses()) == ([], [])


def test_an_abort_after_the_start_stops_the_job_at_fetch(harness: Harness) -> None:
    harness.call()
    harness.stores.answer(store_messages.FIND, FindResult())
    aborted = Deferred.fromCoroutine(harness.downloads.abort("job-1"))
    harness.fetch.answer(START, in_progress())
    harness.fetch.answer(STOP, Acknowledgement())
    assert aborted.called
    assert harness.downloads.statuses() == []


def test_a_late_fetch_has_the_job_and_is_called_again(harness: Harness) -> None:
    started = harness.call()
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.fetch.answer(START, RpcError(DEADLINE, "fetch did not answer"))
    assert state_of(started) is PROGRESS, "a late response is not a refusal"
    for _ in range(5):
        harness.clock.advance(LAST_S)
        waits = [deferred for name, _, deferred in harness.fetch.calls if not deferred.called]
        assert len(waits) <= 1, "at most one call is pending"
        if waits:
            waits[0].errback(RpcError(DEADLINE, "fetch did not answer"))
    harness.clock.advance(LAST_S)
    harness.fetch.answer(START, in_progress())
    assert [status.state for status in harness.downloads.statuses()] == [PROGRESS]


def test_downloads_beyond_the_limit_are_refused_as_busy_with_a_reason(harness: Harness) -> None:
    for number in range(MAX_STARTING):
        harness.call(f"job-{number}")
    refused = error_of(harness.call("one-more"))
    assert (refused.reason, str(MAX_STARTING) in refused.hint) == ("busy", True)
    assert not harness.call("job-0").called, "joining a pending start is allowed"
    assert len(harness.stores.calls) == MAX_STARTING


@pytest.mark.parametrize(
    "late",
    [
        RpcError(DEADLINE, "store.sock did not answer store.publish within 120 s"),
        RpcError(BUSY, "the queue is full"),
        RpcError.refused("store_hangs", "the NFS server does not answer"),
    ],
)
def test_publishing_is_repeated_while_the_store_is_late(harness: Harness, late: RpcError) -> None:
    harness.begin()
    result = MoverResult("{SHA-256}0", 10, 10, 10)
    harness.downloads._apply(FetchStatus(DownloadStatus("job-1", PROGRESS), result))
    for _ in range(3):
        harness.stores.answer(store_messages.PUBLISH, late)
        harness.clock.advance(LAST_S)
        harness.stores.answer(store_messages.FIND, FindResult())
    harness.stores.answer(store_messages.PUBLISH, late)
    harness.clock.advance(LAST_S)
    published = PublishedTemplate("template/tmpl/2/1/a.raw", 10, 10, "{SHA-256}0")
    harness.stores.answer(store_messages.FIND, FindResult(published))
    [status] = harness.downloads.statuses()
    assert (status.state, status.install_path) == (DownloadState.DOWNLOADED, published.install_path)
    assert store_messages.DISCARD not in harness.stores.names()


def test_a_job_whose_store_is_late_is_reported_as_waiting(harness: Harness) -> None:
    harness.begin()
    result = MoverResult("{SHA-256}0", 10, 10, 10)
    harness.downloads._apply(FetchStatus(DownloadStatus("job-1", PROGRESS), result))
    harness.stores.answer(store_messages.PUBLISH, RpcError.refused("store_hangs", "no answer"))
    [status] = harness.downloads.statuses()
    assert status.waits_for_store
    harness.clock.advance(LAST_S)
    harness.stores.answer(store_messages.FIND, FindResult(PublishedTemplate("a.raw", 10, 10, "{SHA-256}0")))
    [status] = harness.downloads.statuses()
    assert (status.state, status.waits_for_store) == (DownloadState.DOWNLOADED, False)


def test_a_hung_store_is_reported_before_the_daemons_deadline(harness: Harness) -> None:
    harness.call()
    assert harness.stores.timeouts_s[0] < CALL_DEADLINE_S


def test_a_store_that_downloads_wait_for_gets_no_further_calls(harness: Harness) -> None:
    harness.begin()
    harness.downloads._apply(FetchStatus(DownloadStatus("job-1", PROGRESS, waits_for_store=True)))
    before = len(harness.stores.calls)
    assert error_of(harness.call("job-2")).reason == "store_hangs"
    assert len(harness.stores.calls) == before
    harness.downloads._apply(in_progress())
    assert not harness.call("job-2").called
    assert len(harness.stores.calls) == before + 1


def test_a_new_fetch_gets_jobs_that_wait_for_their_store_last(harness: Harness) -> None:
    harness.begin("hung")
    harness.begin("well")
    hangs = FetchStatus(DownloadStatus("hung", PROGRESS, waits_for_store=True))
    harness.downloads._apply(hangs)
    again: Any = FakeFetch()
    Deferred.fromCoroutine(harness.downloads._resume_all(again, "second"))
    again.answer(START, in_progress("well"))
    assert [start.download.job_id for _, start, _ in again.calls] == ["well", "hung"]


def linked(address: str, content_id: str | None = "{SHA-256}ab") -> DownloadRequest:
    server = None if content_id is None else SsvmAddress(address, 443)
    url = f"https://{address}/userdata/x/a.raw"
    return evolve(request("job-1"), url=url, source_server=server, content_id=content_id)


def begin_linked(harness: Harness, *, waits: bool) -> None:
    Deferred.fromCoroutine(harness.downloads.get_or_start(linked("203.0.113.1")))
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.fetch.answer(START, FetchStatus(DownloadStatus("job-1", PROGRESS, 5, 10, waits_for_source=waits)))


def test_a_new_link_to_the_same_file_reaches_fetch(harness: Harness) -> None:
    begin_linked(harness, waits=False)
    again = Deferred.fromCoroutine(harness.downloads.get_or_start(linked("203.0.113.1")))
    assert state_of(again) is PROGRESS and harness.fetch.names() == [START], "nothing is new"
    moved = Deferred.fromCoroutine(harness.downloads.get_or_start(linked("203.0.113.2")))
    assert harness.stores.opened == [SourceServer("203.0.113.2", 443)]
    [_, (_, start, _)] = harness.fetch.calls
    assert start.download.url == linked("203.0.113.2").url
    harness.fetch.answer(START, in_progress())
    assert state_of(moved) is PROGRESS


def test_a_repeated_request_ends_the_wait_for_a_source(harness: Harness) -> None:
    begin_linked(harness, waits=True)
    Deferred.fromCoroutine(harness.downloads.get_or_start(linked("203.0.113.1")))
    assert harness.fetch.names() == [START, START]


@pytest.mark.parametrize("content_id", ["{SHA-256}cd", None], ids=["another copy", "the URL"])
def test_a_waiting_job_with_another_source_begins_anew(harness: Harness, content_id: str | None) -> None:
    begin_linked(harness, waits=True)
    other = linked("203.0.113.1", content_id)
    Deferred.fromCoroutine(harness.downloads.get_or_start(other))
    harness.fetch.answer(STOP, Acknowledgement())
    harness.stores.answer(store_messages.FIND, FindResult())
    assert harness.fetch.names() == [START, STOP, START]
    assert harness.fetch.calls[-1][1].download.content_id == content_id


def test_a_running_job_keeps_its_source(harness: Harness) -> None:
    begin_linked(harness, waits=False)
    Deferred.fromCoroutine(harness.downloads.get_or_start(linked("203.0.113.1", "{SHA-256}cd")))
    assert harness.fetch.names() == [START]


def test_a_store_that_refuses_to_publish_ends_the_job(harness: Harness) -> None:
    harness.begin()
    harness.downloads._apply(
        FetchStatus(DownloadStatus("job-1", PROGRESS), MoverResult("{SHA-256}0", 10, 10, 10))
    )
    harness.stores.answer(store_messages.PUBLISH, RpcError.refused("store_full", "secondary storage is full"))
    harness.stores.answer(store_messages.DISCARD, Acknowledgement())
    [status] = harness.downloads.statuses()
    assert status.error is not None
    assert status.error.code == "store_full"


def test_the_stored_size_is_reserved_before_it_is_published(harness: Harness) -> None:
    harness.begin_with(evolve(request("job-1"), quota_bytes=100))
    moved = MoverResult("{SHA-256}0", 10, 40, 40)
    harness.downloads._apply(FetchStatus(DownloadStatus("job-1", PROGRESS), moved))
    assert harness.stores.names() == [store_messages.FIND]
    [(method, reservation, _)] = harness.daemon.calls
    assert (method, reservation) == (TEMPLATE_RESERVE, QuotaReservation("job-1", moved.size_bytes))
    harness.daemon.answer(TEMPLATE_RESERVE, Acknowledgement())
    assert harness.stores.names() == [store_messages.FIND, store_messages.PUBLISH]


def test_an_older_daemon_reserves_nothing(harness: Harness) -> None:
    harness.begin_with(evolve(request("job-1"), quota_bytes=100))
    moved = MoverResult("{SHA-256}0", 10, 40, 40)
    harness.downloads._apply(FetchStatus(DownloadStatus("job-1", PROGRESS), moved))
    harness.daemon.answer(TEMPLATE_RESERVE, RpcError(METHOD_NOT_FOUND, "no method"))
    assert harness.stores.names() == [store_messages.FIND, store_messages.PUBLISH]


def test_an_image_beyond_the_limit_of_its_account_is_removed(harness: Harness) -> None:
    harness.begin_with(evolve(request("job-1"), quota_bytes=100))
    harness.downloads._apply(
        FetchStatus(DownloadStatus("job-1", PROGRESS), MoverResult("{SHA-256}0", 10, 40, 40))
    )
    harness.daemon.answer(TEMPLATE_RESERVE, RpcError.refused("quota_exceeded", "nothing is left"))
    assert harness.stores.names() == [store_messages.FIND, store_messages.DISCARD]
    harness.stores.answer(store_messages.DISCARD, Acknowledgement())
    [status] = harness.downloads.statuses()
    assert status.error is not None
    assert status.error.code == "quota_exceeded"


def test_sweeps_are_joined_and_keep_starting_jobs(harness: Harness) -> None:
    harness.begin("old")
    harness.call("new")
    sweeps = [Deferred.fromCoroutine(harness.downloads.sweeps.run(STORE)) for _ in range(3)]
    [order] = [params for name, params, _ in harness.stores.calls if name == store_messages.SWEEP]
    assert order.keep_job_ids == ["new", "old"]
    harness.stores.answer(store_messages.FIND, FindResult())
    assert harness.fetch.names() == [START], "a new job starts after the sweep, which does not list it"
    harness.stores.answer(store_messages.SWEEP, StoreStats(100, 1))
    assert [sweep.result for sweep in sweeps] == [StoreStats(100, 1)] * 3
    assert harness.fetch.names() == [START, START]
