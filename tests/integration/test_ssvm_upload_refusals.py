# SPDX-License-Identifier: Apache-2.0
"""Uploads that an SSVM refuses: not signed, too late, of another page; and files that are wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve

from integration.ssvm_lab.fixtures import daemon, published
from integration.ssvm_lab.upload_fixtures import authority, client, uploads, world
from integration.ssvm_lab.uploads import CONTENT, LARGE, MIB, PAGE, Uploader, Uploads, upload_request
from integration.ssvm_lab.world import World
from systemvm.wire.storage import ImageFormat, QuotaReservation
from systemvm.wire.transfer_failure import TransferFailure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["authority", "client", "daemon", "uploads", "world"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_refusals_in_the_words_of_cloudstack(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT, max_size_bytes=len(CONTENT)))
    form = ("-F", "file=@/etc/hostname")
    missing = await uploader.ask("POST", *form, signed=False)
    assert (missing.code, missing.text) == (400, "signature, metadata and expires are compulsory fields.")
    for forged in (
        evolve(uploader.request, signature="AAAA"),
        evolve(uploader.request, metadata="AAAA"),
        evolve(uploader.request, expires="AAAA"),
    ):
        other = Uploader(uploader.client, forged, Path("/nonexistent"))
        refused = await other.ask("POST", *form)
        assert (refused.code, refused.text) == (400, "signature validation failed.")
        assert (await other.tus("HEAD")).code == 400
    empty = await uploader.ask("POST", "-H", "Content-Length: 0")
    text = "content length is not set in the request or has invalid value."
    assert (empty.code, empty.text) == (400, text)
    chunked = await uploader.ask("POST", "-H", "Transfer-Encoding: chunked", *form)
    assert (chunked.code, chunked.text) == (400, text)
    for method in ("GET", "PUT"):
        assert (await uploader.ask(method)).text == "only post requests are allowed"
    no_file = await uploader.ask("POST", "-F", "file=text")
    assert (no_file.code, no_file.text) == (422, "received entity is not a file")
    no_form = await uploader.ask("POST", "--data-binary", "text")
    assert (no_form.code, no_form.text) == (422, "received entity is not a file")
    large = await uploader.form(CONTENT + bytes(1 << 18))
    assert large.code == 400 and large.text.startswith("Maximum file upload size exceeded.")
    assert (await uploader.create(len(CONTENT) + 1)).code == 413
    unknown = Uploader(uploader.client, upload_request(), Path("/nonexistent"))
    assert (await unknown.ask("POST", *form)).code in (404, 413)
    assert (await unknown.tus("HEAD")).code == 404
    assert (await uploader.form(CONTENT)).code == 200, "no refusal has used the URL"


@pytest_twisted.ensureDeferred
async def test_a_file_beyond_the_limit_of_the_account_is_refused_before_it_is_sent(
    uploads: Uploads, world: World
) -> None:
    """What other SSVMs have taken since the upload was ordered, only the daemon knows."""
    uploads.daemon.refuses_from_bytes = len(CONTENT)
    uploader = await uploads.begin(upload_request(CONTENT, quota_bytes=1 << 30))
    refused = await uploader.create(len(CONTENT))
    assert refused.code == 413
    assert uploads.daemon.reserved == [QuotaReservation(uploader.request.job_id, len(CONTENT))]
    uploads.daemon.refuses_from_bytes = None
    assert (await uploader.create(len(CONTENT))).code == 201, "there is room by now"
    ended = uploads.daemon.end_of(uploader.request.job_id)
    uploads.daemon.refuses_from_bytes = len(CONTENT)
    await uploader.patch(0, CONTENT)
    status = await ended
    assert status.error is not None
    assert status.error.code == "quota_exceeded", "somebody else has taken it before the end"
    assert world.leftovers() == []
    assert world.job_directories() == []


@pytest_twisted.ensureDeferred
async def test_an_upload_that_does_not_begin_expires(uploads: Uploads) -> None:
    request = upload_request(lifetime_s=0.5)
    ended = uploads.daemon.end_of(request.job_id)
    uploader = await uploads.begin(request)
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.UPLOAD_EXPIRED.value
    refused = await uploader.form(CONTENT)
    assert (refused.code, refused.text) == (400, "request not valid anymore.")
    head = await uploader.tus("HEAD")
    assert head.code == 400


@pytest_twisted.ensureDeferred
async def test_only_the_last_signature_and_expiry_count(uploads: Uploads) -> None:
    first = await uploads.begin(upload_request())
    ended = uploads.daemon.end_of(first.request.job_id)
    again = evolve(first.request, signature="c2lnbmVkIGFnYWlu")
    second = await uploads.begin(again)
    assert (await first.form(CONTENT)).text == "signature validation failed."
    await uploads.begin(evolve(again, expires_unix_s=time.time() + 0.5))
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.UPLOAD_EXPIRED.value
    assert (await second.form(CONTENT)).text == "request not valid anymore."


@pytest_twisted.ensureDeferred
async def test_an_upload_that_has_begun_outlives_its_expiry(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(CONTENT))).code == 201
    await uploads.begin(evolve(uploader.request, expires_unix_s=time.time() - 1))
    assert (await uploader.patch(0, CONTENT)).code == 204
    assert published(world, await ended).read_bytes() == CONTENT


@pytest.mark.parametrize("is_form", [True, False], ids=["form", "tus"])
@pytest_twisted.ensureDeferred
async def test_a_file_of_another_format_is_refused(uploads: Uploads, world: World, is_form: bool) -> None:
    uploader = await uploads.begin(upload_request(format=ImageFormat.QCOW2))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    if is_form:
        answer = await uploader.form(LARGE, name="disk.qcow2")
    else:
        assert (await uploader.create(len(LARGE))).code == 201
        answer = await uploader.patch(0, LARGE)
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.FORMAT_MISMATCH.value
    assert (answer.code, answer.text) == (400, status.error.message)
    assert status.received_bytes < 24 * MIB, "refused long before its end"
    assert world.leftovers() == []
    if not is_form:
        assert (await uploader.tus("HEAD")).code == 410


@pytest_twisted.ensureDeferred
async def test_a_wrong_checksum_is_refused(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    answer = await uploader.form(CONTENT[::-1])
    assert answer.code == 400
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.CHECKSUM_MISMATCH.value
    assert world.leftovers() == []


@pytest_twisted.ensureDeferred
async def test_only_the_management_page_may_read_answers(uploads: Uploads) -> None:
    uploader = await uploads.begin(upload_request())
    asks = ("-H", "Access-Control-Request-Method: PATCH", "-H", "Access-Control-Request-Headers: x-signature")
    preflight = await uploader.ask("OPTIONS", "-H", f"Origin: {PAGE}", *asks, signed=False)
    assert preflight.code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "patch" in preflight.headers["access-control-allow-methods"]
    for name in ("x-signature", "x-metadata", "x-expires", "tus-resumable", "upload-offset"):
        assert name in preflight.headers["access-control-allow-headers"]
    other = await uploader.ask("OPTIONS", "-H", "Origin: https://other.example.test", *asks, signed=False)
    assert not [name for name in other.headers if name.startswith("access-control")]
    head = await uploader.tus("HEAD", "-H", f"Origin: {PAGE}")
    assert head.headers["access-control-allow-origin"] == PAGE
    assert "upload-offset" in head.headers["access-control-expose-headers"]
