# SPDX-License-Identifier: Apache-2.0
"""Uploads as jobs of the agent: beside downloads at fetch, and in serve's table until they are forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.serving import MAX_ENDED_UPLOADS, Serving
from systemvm.ssvm.fetch_messages import FetchStatus
from systemvm.ssvm.store_messages import FindResult
from systemvm.ssvm.upload_messages import DROP_UPLOAD, SERVE_UPLOADS, START_UPLOAD, UploadEnd
from systemvm.wire.extract import ExtractSetup
from systemvm.wire.storage import DownloadState, DownloadStatus, ImageFormat, Store
from systemvm.wire.upload import UploadRequest
from unit.ssvm.agent.download_harness import STORE, FakeFetch, Harness

REQUEST = UploadRequest(
    "job-1", "r", 1, 2, "u", "d", ImageFormat.RAW, STORE, 1 << 20, "id-1", "https://x.test/upload/id-1",
    "metadata", "2026-11-29T01:00:00.000Z", 100.0, "the signature",
)  # fmt: skip
IN_PROGRESS = FetchStatus(DownloadStatus("job-1", DownloadState.DOWNLOAD_IN_PROGRESS))


def started() -> Harness:
    harness = Harness()
    Deferred.fromCoroutine(harness.downloads.get_or_start(REQUEST))
    harness.stores.answer(store_messages.FIND, FindResult())
    harness.fetch.answer(START_UPLOAD, IN_PROGRESS)
    return harness


def test_fetch_learns_no_signature_and_no_url() -> None:
    harness = started()
    order = harness.fetch.calls[0][1]
    assert (order.owner, order.job_id, order.expires_unix_s) == ("s-1-VM", "job-1", 100.0)
    sent = msgspec.json.encode(order).decode()
    assert not [text for text in ("the signature", "x.test", "metadata") if text in sent]


def test_fetch_takes_a_later_expiry_and_the_same_request_only_once() -> None:
    harness = started()
    Deferred.fromCoroutine(harness.downloads.get_or_start(REQUEST))
    assert harness.fetch.names() == [START_UPLOAD]
    Deferred.fromCoroutine(harness.downloads.get_or_start(evolve(REQUEST, expires_unix_s=200.0)))
    assert harness.fetch.names() == [START_UPLOAD] * 2
    assert harness.fetch.calls[1][1].expires_unix_s == 200.0


def test_other_keys_of_a_store_go_to_the_jobs_that_use_it_and_to_no_other() -> None:
    harness = started()
    elsewhere = Store("10.12.0.9", "/elsewhere")
    Deferred.fromCoroutine(harness.downloads.renew_keys(elsewhere))
    assert harness.fetch.names() == [START_UPLOAD]
    Deferred.fromCoroutine(harness.downloads.renew_keys(STORE))
    assert harness.fetch.names() == [START_UPLOAD] * 2


def test_an_upload_outlives_any_number_of_fetches() -> None:
    harness = started()
    for number in range(5):
        again: Any = FakeFetch()
        Deferred.fromCoroutine(harness.downloads._resume_all(again, f"fetch-{number}"))
        again.answer(START_UPLOAD, IN_PROGRESS)
    assert [each.state for each in harness.downloads.statuses()] == [DownloadState.DOWNLOAD_IN_PROGRESS]


class ServingHarness:
    """The agent's side of serve, which is connected."""

    def __init__(self) -> None:
        self.serving = Serving(Clock(), Path("/nonexistent"), lambda: 0.0)
        self.serve = FakeFetch()
        peer: Any = self.serve
        self.serving._peer = peer
        self.serving._setup = ExtractSetup("https://x.test", "", "")

    def put(self, request: UploadRequest = REQUEST) -> None:
        Deferred.fromCoroutine(self.serving.put_upload(request))


def test_serve_learns_how_an_upload_ended() -> None:
    harness = ServingHarness()
    harness.put()
    harness.serving.end_upload("job-1", UploadEnd("stalled", "why"))
    harness.serving.end_upload("a download", UploadEnd())
    served = [params.uploads[0] for method, params, _ in harness.serve.calls if method == SERVE_UPLOADS]
    assert [each.end for each in served] == [None, UploadEnd("stalled", "why")]
    assert {each.signature for each in served} == {"the signature"}
    assert "the signature" not in repr(served)


def test_an_aborted_upload_is_forgotten() -> None:
    harness = ServingHarness()
    harness.put()
    harness.serving.drop_upload("job-1")
    harness.serving.drop_upload("job-1")
    assert harness.serve.names() == [SERVE_UPLOADS, DROP_UPLOAD]


def test_ended_uploads_are_kept_for_late_clients_but_not_for_ever() -> None:
    harness = ServingHarness()
    for number in range(MAX_ENDED_UPLOADS + 2):
        job_id = f"job-{number}"
        harness.put(evolve(REQUEST, job_id=job_id, upload_id=job_id))
        harness.serving.end_upload(job_id, UploadEnd())
    dropped = [params.upload_id for method, params, _ in harness.serve.calls if method == DROP_UPLOAD]
    assert dropped == ["job-0", "job-1"]


@pytest.mark.parametrize("has_ended", [False, True])
def test_serve_is_needed_while_an_upload_runs(has_ended: bool) -> None:
    harness = ServingHarness()
    assert not harness.serving._is_needed
    harness.put()
    if has_ended:
        harness.serving.end_upload("job-1", UploadEnd())
    assert harness.serving._is_needed is not has_ended


def test_an_upload_waits_for_the_setup_of_serve() -> None:
    serving = Serving(Clock(), Path("/nonexistent"), lambda: 0.0)
    done = Deferred.fromCoroutine(serving.put_upload(REQUEST))
    assert done.called, "nothing can be connected before the first setup"
    assert serving._is_needed
