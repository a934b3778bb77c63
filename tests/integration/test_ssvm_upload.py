# SPDX-License-Identifier: Apache-2.0
"""Uploads through the SSVM's real processes: CloudStack's signed form and tus, with curl as the client."""

from __future__ import annotations

import base64
import gzip
import hashlib
import signal
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.fixtures import daemon, published
from integration.ssvm_lab.upload_fixtures import authority, client, uploads, world
from integration.ssvm_lab.uploads import CONTENT, LARGE, MIB, PAGE, Uploads, upload_request
from integration.ssvm_lab.world import World
from rpc_wait import until
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadAbort, JobListing
from systemvm.wire.transfer_failure import TransferFailure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["authority", "client", "daemon", "uploads", "world"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_signed_form_becomes_a_template(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    answer = await uploader.form(CONTENT, "-H", f"Origin: {PAGE}")
    assert (answer.code, answer.text) == (200, "upload successful.")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert published(world, await ended).read_bytes() == CONTENT
    again = await uploader.form(CONTENT)
    assert (again.code, again.text) == (400, "The one time post url is already used for upload")


@pytest_twisted.ensureDeferred
async def test_tus_goes_on_where_it_was_interrupted(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    options = await uploader.ask("OPTIONS", signed=False)
    assert options.code == 204
    assert options.headers["tus-version"] == "1.0.0"
    assert options.headers["tus-extension"] == "creation,creation-defer-length,termination,checksum"
    assert options.headers["tus-max-size"] == str(1 << 30)
    head = await uploader.tus("HEAD")
    assert (head.offset, head.headers["upload-defer-length"]) == (0, "1")
    created = await uploader.create(len(CONTENT))
    assert (created.code, created.headers["location"]) == (201, f"/upload/{uploader.request.upload_id}")
    assert (await uploader.create(len(CONTENT))).code == 201, "repeating it has no effect"
    assert (await uploader.create(len(CONTENT) + 1)).code == 400
    first = await uploader.patch(0, CONTENT[:3_000_000])
    assert (first.code, first.offset) == (204, 3_000_000)
    head = await uploader.tus("HEAD")
    assert (head.offset, head.headers["upload-length"]) == (3_000_000, str(len(CONTENT)))
    assert head.headers["cache-control"] == "no-store"
    assert (await uploader.patch(0, CONTENT)).code == 409
    assert (await uploader.patch(3_000_001, b"x")).code == 409
    assert (await uploader.patch(3_000_000, CONTENT[3_000_000:] + b"x")).code == 413
    assert (await uploader.patch(3_000_000, b"x", Tus_Resumable="0.2.2")).code == 412
    assert (await uploader.patch(3_000_000, b"x", Content_Type="application/octet-stream")).code == 415
    assert (
        await uploader.patch(3_000_000, b"x", Upload_Checksum="sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    ).code == 460
    assert (await uploader.patch(3_000_000, b"x", Upload_Checksum="crc32 AAAAAA==")).code == 400
    piece = CONTENT[3_000_000:4_000_000]
    digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
    checked = await uploader.patch(3_000_000, piece, Upload_Checksum=f"sha256 {digest}")
    assert (checked.code, checked.offset) == (204, 4_000_000)
    last = await uploader.patch(4_000_000, CONTENT[4_000_000:])
    assert (last.code, last.offset) == (204, len(CONTENT))
    assert published(world, await ended).read_bytes() == CONTENT
    head = await uploader.tus("HEAD")
    assert (head.code, head.offset) == (200, len(CONTENT)), "a client that lost the answer"


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
@pytest_twisted.ensureDeferred
async def test_first_body_can_say_the_length(uploads: Uploads, world: World, compress: Any) -> None:
    content = bytes(2 * MIB) + CONTENT
    body = compress(content)
    uploader = await uploads.begin(upload_request(body))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.patch(0, body[:1000])).code == 400, "nobody has said the length"
    for start in range(0, len(body), 2_000_000):
        answer = await uploader.patch(start, body[start : start + 2_000_000], Upload_Length=str(len(body)))
        assert (answer.code, answer.offset) == (204, min(len(body), start + 2_000_000))
    assert published(world, await ended).read_bytes() == content


@pytest_twisted.ensureDeferred
async def test_only_one_request_brings_bytes_at_a_time(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(LARGE))).code == 201
    running = uploader.start_patch(0, LARGE, "--limit-rate", "10m")
    await until(lambda: uploads.received(uploader) > MIB)
    locked = await uploader.patch(0, b"x")
    assert (locked.code, locked.headers["retry-after"]) == (423, "5")
    assert (await uploader.tus("HEAD")).code == 200
    running.send_signal(signal.SIGKILL)
    await deferToThread(running.wait)
    head = await uploader.offset()
    assert 0 < head.offset < len(LARGE)
    assert (await uploader.patch(head.offset, LARGE[head.offset :])).code == 204
    assert published(world, await ended).read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_a_client_that_stops_sending_keeps_no_place(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(LARGE))).code == 201
    running = uploader.start_patch(0, LARGE, "--limit-rate", "4m")
    await until(lambda: uploads.received(uploader) > MIB)
    running.send_signal(signal.SIGSTOP)
    try:
        await until(lambda: any("no data for" in step for step in uploads.steps(uploader)))
    finally:
        running.kill()
        await deferToThread(running.wait)
    head = await uploader.offset()
    assert (await uploader.patch(head.offset, LARGE[head.offset :])).code == 204
    assert published(world, await ended).read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_client_and_daemon_can_end_an_upload(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(CONTENT))).code == 201
    assert (await uploader.patch(0, CONTENT[:MIB])).code == 204
    listing = await uploads.daemon.call(storage.STORAGE_JOBS, None, JobListing)
    mine = next(job for job in listing.jobs if job.job_id == uploader.request.job_id)
    assert (mine.received_bytes, mine.total_bytes) == (MIB, len(CONTENT))
    assert (await uploader.tus("DELETE")).code == 204
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.ABORTED.value
    assert world.leftovers() == []
    other = await uploads.begin(upload_request(CONTENT))
    assert (await other.patch(0, CONTENT[:MIB], Upload_Length=str(len(CONTENT)))).code == 204
    await uploads.daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(other.request.job_id), Acknowledgement)
    assert world.leftovers() == []
    assert (await other.tus("HEAD")).code == 404
