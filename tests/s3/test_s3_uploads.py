# SPDX-License-Identifier: Apache-2.0
"""Uploads of users to a store that is a bucket, by the SSVM's real processes on a real S3 server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from attrs import evolve
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.public_client import Client, identity
from integration.ssvm_lab.uploads import Uploads, upload_request
from integration.ssvm_lab.world import VM, World, kill_all
from rpc_wait import until
from s3.bucket_flow import (
    IMAGE,
    KEYED,
    LONG_S,
    S3,
    SIZE,
    SMALL_SIZE,
    content,
    daemon,
    keys,
    leftovers,
    link_to,
    set_up,
    world,
)
from s3.swift import OTHER_CREDENTIALS, USERS, Swift
from systemvm.ssvm.limits import MIB
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP
from systemvm.wire.storage import DownloadAbort, DownloadState, ImageFormat, StoreStats
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import UploadRequest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1800)]
__all__ = ["daemon", "world"]  # fixtures
SMALL = IMAGE[:SMALL_SIZE]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client(world: World, authority: trustme.CA, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    yield Client(world, tmp_path / "ca.pem", patience_s=LONG_S)


@pytest_twisted.async_yield_fixture
async def uploads(daemon: Daemon, client: Client, authority: trustme.CA, tmp_path: Path) -> Any:
    await daemon.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
    yield Uploads(daemon, client, tmp_path)


def to_bucket(number: int, data: bytes | None = None, **more: Any) -> UploadRequest:
    values: dict[str, Any] = {"store": S3, "template_id": number, "unique_name": f"{number}-2-test"}
    return upload_request(data, **(values | more))


def left(swift: Swift) -> list[str]:
    """Return what these tests have left; those of other modules leave uploads behind."""
    return leftovers(swift, "template/tmpl/2/4")


@pytest_twisted.ensureDeferred
async def test_a_signed_form_becomes_a_template_of_the_bucket(
    uploads: Uploads, swift: Swift, world: World, tmp_path: Path
) -> None:
    uploader = await uploads.begin(to_bucket(401, SMALL))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    answer = await uploader.form(SMALL)
    assert (answer.code, answer.text) == (200, "upload successful.")
    status = await ended
    assert status.state is DownloadState.DOWNLOADED, status
    assert status.physical_size_bytes == SMALL_SIZE
    found = keys(swift, "template/tmpl/2/401/")
    assert found == sorted([status.install_path or "", "template/tmpl/2/401/template.properties"])
    assert content(swift, world, await link_to(uploads.daemon, status), tmp_path) == SMALL
    assert left(swift) == []
    assert world.leftovers() == [], "nothing was on NFS"
    again = await uploader.form(SMALL)
    assert (again.code, again.text) == (400, "The one time post url is already used for upload")


@pytest_twisted.ensureDeferred
async def test_tus_goes_on_in_the_bucket_after_a_pause(
    uploads: Uploads, swift: Swift, world: World, tmp_path: Path
) -> None:
    uploader = await uploads.begin(to_bucket(402, SMALL))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    assert (await uploader.create(SMALL_SIZE)).code == 201
    for start in range(0, SMALL_SIZE, 7 * MIB):
        answer = await uploader.patch(start, SMALL[start : start + 7 * MIB])
        assert (answer.code, answer.offset) == (204, min(SMALL_SIZE, start + 7 * MIB))
        assert (await uploader.offset()).offset == answer.offset
    status = await ended
    assert status.state is DownloadState.DOWNLOADED, status
    assert content(swift, world, await link_to(uploads.daemon, status), tmp_path) == SMALL
    assert (await uploader.tus("HEAD")).offset == SMALL_SIZE, "a client that lost the answer"
    assert left(swift) == []


@pytest.mark.parametrize("victim", ["mover", "fetch"])
@pytest_twisted.ensureDeferred
async def test_a_process_killed_in_the_middle_continues_from_the_parts_in_the_bucket(
    uploads: Uploads, swift: Swift, world: World, tmp_path: Path, victim: str
) -> None:
    uploader = await uploads.begin(to_bucket({"mover": 410, "fetch": 411}[victim], IMAGE))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    assert (await uploader.create(SIZE)).code == 201
    running = uploader.start_patch(0, IMAGE, "--limit-rate", "10m")
    await until(lambda: uploads.received(uploader) > 40 * MIB, LONG_S)
    kill_all(world.mover_pids() if victim == "mover" else world.fetch_pids())
    await deferToThread(running.wait)
    head = await uploader.offset()
    assert 40 * MIB - 32 * MIB <= head.offset < SIZE
    last = await uploader.patch(head.offset, IMAGE[head.offset :])
    assert (last.code, last.offset) == (204, SIZE)
    status = await ended
    assert status.state is DownloadState.DOWNLOADED, status
    assert content(swift, world, await link_to(uploads.daemon, status), tmp_path) == IMAGE
    assert left(swift) == []


@pytest_twisted.ensureDeferred
async def test_a_new_agent_and_a_new_fetch_continue_what_the_bucket_has(
    uploads: Uploads, swift: Swift, world: World, authority: trustme.CA, client: Client, tmp_path: Path
) -> None:
    uploader = await uploads.begin(to_bucket(412, IMAGE))
    assert (await uploader.create(SIZE)).code == 201
    assert (await uploader.patch(0, IMAGE[: 50 * MIB])).code == 204
    await uploads.daemon.close()
    kill_all([*world.fetch_pids(), *world.serve_pids()])
    await until(lambda: world.mover_pids() == [], LONG_S)
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        await set_up(other)
        await other.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
        again = await Uploads(other, client, tmp_path).begin(evolve(uploader.request, total_bytes=SIZE))
        ended = other.end_of(again.request.job_id, LONG_S)
        head = await again.offset()
        assert 50 * MIB - 32 * MIB <= head.offset <= 50 * MIB
        assert (await again.patch(head.offset, IMAGE[head.offset :])).code == 204
        status = await ended
        assert status.state is DownloadState.DOWNLOADED, status
        assert content(swift, world, await link_to(other, status), tmp_path) == IMAGE
        await other.close()
    assert left(swift) == []


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_gone_for_a_while_ends_no_upload(
    uploads: Uploads, swift: Swift, world: World, tmp_path: Path
) -> None:
    uploader = await uploads.begin(to_bucket(413, IMAGE))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    assert (await uploader.create(SIZE)).code == 201
    running = uploader.start_patch(0, IMAGE, "--limit-rate", "10m")
    await until(lambda: uploads.received(uploader) > 20 * MIB, LONG_S)
    await deferToThread(swift.set_users, USERS)  # it is stopped, and started again
    await deferToThread(running.wait)
    head = await uploader.offset()
    if head.offset < SIZE:  # the body had to give way, and its client goes on
        assert (await uploader.patch(head.offset, IMAGE[head.offset :])).code == 204
    status = await ended
    assert status.state is DownloadState.DOWNLOADED, status
    assert content(swift, world, await link_to(uploads.daemon, status), tmp_path) == IMAGE


@pytest.mark.parametrize("is_form", [True, False], ids=["form", "tus"])
@pytest_twisted.ensureDeferred
async def test_a_wrong_file_leaves_nothing_in_the_bucket(
    uploads: Uploads, swift: Swift, is_form: bool
) -> None:
    uploader = await uploads.begin(to_bucket(420, SMALL[::-1]))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    if is_form:
        answer = await uploader.form(SMALL)
    else:
        assert (await uploader.create(SMALL_SIZE)).code == 201
        answer = await uploader.patch(0, SMALL)
    status = await ended
    assert status.error is not None
    assert status.error.code == TransferFailure.CHECKSUM_MISMATCH.value
    assert (answer.code, answer.text) == (400, status.error.message)
    assert left(swift) == []
    assert keys(swift, "template/tmpl/2/420/") == []


@pytest_twisted.ensureDeferred
async def test_a_file_of_another_format_is_refused_before_a_part_is_sent(
    uploads: Uploads, swift: Swift
) -> None:
    uploader = await uploads.begin(to_bucket(421, format=ImageFormat.QCOW2))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    answer = await uploader.form(SMALL, name="disk.qcow2")
    status = await ended
    assert status.error is not None
    assert status.error.code == TransferFailure.FORMAT_MISMATCH.value
    assert answer.code == 400
    assert left(swift) == []


@pytest_twisted.ensureDeferred
async def test_client_and_daemon_can_end_an_upload_to_a_bucket(uploads: Uploads, swift: Swift) -> None:
    uploader = await uploads.begin(to_bucket(430, SMALL))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    assert (await uploader.create(SMALL_SIZE)).code == 201
    assert (await uploader.patch(0, SMALL[: 12 * MIB])).code == 204
    assert left(swift) != []
    assert (await uploader.tus("DELETE")).code == 204
    status = await ended
    assert status.error is not None
    assert status.error.code == TransferFailure.ABORTED.value
    await until(lambda: left(swift) == [], LONG_S)
    other = await uploads.begin(to_bucket(431, SMALL))
    assert (await other.patch(0, SMALL[: 12 * MIB], Upload_Length=str(SMALL_SIZE))).code == 204
    await uploads.daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(other.request.job_id), Acknowledgement)
    await until(lambda: left(swift) == [], LONG_S)
    assert (await other.tus("HEAD")).code == 404


@pytest_twisted.ensureDeferred
async def test_an_upload_that_waits_takes_the_keys_that_replace_those_of_its_order(
    uploads: Uploads, swift: Swift, world: World, tmp_path: Path
) -> None:
    uploader = await uploads.begin(to_bucket(440, SMALL))
    ended = uploads.daemon.end_of(uploader.request.job_id, LONG_S)
    assert (await uploader.create(SMALL_SIZE)).code == 201
    assert KEYED.s3 is not None
    other = evolve(KEYED.s3, access_key=OTHER_CREDENTIALS.access_key, secret_key=OTHER_CREDENTIALS.secret_key)
    await uploads.daemon.call(storage.STORAGE_SETUP, evolve(KEYED, s3=other), StoreStats)
    swift.set_users([OTHER_CREDENTIALS])
    try:
        assert (await uploader.patch(0, SMALL)).code == 204
        status = await ended
        assert status.state is DownloadState.DOWNLOADED, status
    finally:
        swift.set_users(USERS)
        await uploads.daemon.call(storage.STORAGE_SETUP, KEYED, StoreStats)
    assert content(swift, world, await link_to(uploads.daemon, status), tmp_path) == SMALL
