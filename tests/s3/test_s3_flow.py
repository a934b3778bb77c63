# SPDX-License-Identifier: Apache-2.0
"""Image stores that are buckets, by the SSVM's real processes on a real S3 server."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.world import STORE, World, kill_all
from rpc_wait import until
from s3.bucket_flow import (
    IMAGE,
    KEYED,
    KEYLESS,
    LONG_S,
    S3,
    SIZE,
    SMALL_SIZE,
    content,
    copied,
    copy_order,
    daemon,
    keys,
    leftovers,
    link_to,
    order,
    received,
    set_up,
    world,
)
from s3.swift import CREDENTIALS, OTHER_CREDENTIALS, USERS, Swift
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.s3 import object_keys
from systemvm.wire import recording, storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    MAX_PIECE_BYTES,
    RecordingContent,
    RecordingPlace,
    RecordingRange,
    RecordingRefusal,
    StoredPiece,
    StoredSize,
)
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadState,
    DownloadStatus,
    StorageSweep,
    Store,
    StoreStats,
    TemplateDelete,
    TemplateListing,
    TemplateListRequest,
    TemplateQuarantine,
)
from systemvm.wire.transfer_failure import TransferFailure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1800)]
__all__ = ["daemon", "world"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_a_download_becomes_a_template_of_the_bucket_without_nfs(
    swift: Swift, world: World, daemon: Daemon, tmp_path: Path
) -> None:
    wanted = order(world, 301)
    status = await daemon.download(wanted, LONG_S)
    assert status.state is DownloadState.DOWNLOADED, status
    assert (status.physical_size_bytes, status.virtual_size_bytes) == (SMALL_SIZE, SMALL_SIZE)
    found = keys(swift, "template/tmpl/2/301/")
    assert found == sorted([status.install_path or "", "template/tmpl/2/301/template.properties"])
    assert leftovers(swift) == []
    assert world.leftovers() == []
    assert content(swift, world, await link_to(daemon, status), tmp_path) == IMAGE[:SMALL_SIZE]
    again = await daemon.download(wanted, LONG_S)  # by an agent that has forgotten it, too
    assert again.install_path == status.install_path
    page: TemplateListing = await daemon.call(storage.TEMPLATE_LIST, TemplateListRequest(S3), TemplateListing)
    [listed] = [each for each in page.templates if each.template_id == 301]
    assert (listed.job_id, listed.size_bytes, listed.problem) == (wanted.job_id, SMALL_SIZE, "")
    assert listed.description == "A tést = image"
    delete = TemplateDelete(wanted.job_id, S3, 2, 301)
    await daemon.call(storage.TEMPLATE_DELETE, delete, Acknowledgement)
    assert keys(swift, "template/tmpl/2/301/") == []


@pytest.mark.parametrize("victim", ["mover", "fetch", "agent"])
@pytest_twisted.ensureDeferred
async def test_a_killed_transfer_to_a_bucket_continues(
    swift: Swift, world: World, daemon: Daemon, tmp_path: Path, victim: str
) -> None:
    template_id = {"mover": 310, "fetch": 311, "agent": 312}[victim]
    wanted = order(world, template_id, f"counted/image.raw?{victim}")
    world.access_log.write_text("")
    ended = daemon.end_of(wanted.job_id, LONG_S)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, wanted, DownloadStatus)
    await received(daemon, wanted.job_id, 40 * MIB)
    if victim == "agent":
        await daemon.close()
        with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
            another = await Daemon(Path(directory), world).start()
            await set_up(another)
            status = await another.download(wanted, LONG_S)
            await another.close()
    else:
        kill_all(world.mover_pids() if victim == "mover" else world.fetch_pids())
        status = await ended
    assert status.state is DownloadState.DOWNLOADED, status
    sent = sum(int(line) for line in world.access_log.read_text().splitlines())
    assert sent - SIZE <= 64 * MIB
    if victim != "agent":
        assert content(swift, world, await link_to(daemon, status), tmp_path) == IMAGE
    assert leftovers(swift) == []


@pytest_twisted.ensureDeferred
async def test_an_aborted_or_failed_transfer_leaves_no_upload(
    swift: Swift, world: World, daemon: Daemon
) -> None:
    wanted = order(world, 320, "counted/image.raw")
    await daemon.call(storage.TEMPLATE_DOWNLOAD, wanted, DownloadStatus)
    await received(daemon, wanted.job_id, 30 * MIB)
    await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(wanted.job_id), Acknowledgement)
    await until(lambda: leftovers(swift) == [], LONG_S)  # what hangs is waited for behind the answer
    failed = await daemon.download(order(world, 321, checksum="{SHA-256}" + "0" * 64), LONG_S)
    assert failed.error is not None
    assert failed.error.code == TransferFailure.CHECKSUM_MISMATCH.value
    assert leftovers(swift) == []
    assert keys(swift, "template/tmpl/2/32") == []


@pytest_twisted.ensureDeferred
async def test_copies_from_and_to_a_bucket_are_the_same_image(
    swift: Swift, world: World, daemon: Daemon, tmp_path: Path
) -> None:
    first = await daemon.download(order(world, 330), LONG_S)
    assert first.state is DownloadState.DOWNLOADED, first
    on_nfs = await copied(daemon, copy_order(first, 331, S3, STORE))
    assert on_nfs.state is DownloadState.DOWNLOADED, on_nfs
    assert (world.store / (on_nfs.install_path or "")).read_bytes() == IMAGE[:SMALL_SIZE]
    back = await copied(daemon, copy_order(on_nfs, 332, STORE, S3))
    assert back.state is DownloadState.DOWNLOADED, back
    assert content(swift, world, await link_to(daemon, back), tmp_path) == IMAGE[:SMALL_SIZE]
    assert back.checksum == first.checksum
    within = await copied(daemon, copy_order(back, 333, S3, S3))
    assert within.state is DownloadState.DOWNLOADED, within
    wrong = evolve(copy_order(back, 334, S3, STORE), source_checksum="{SHA-256}" + "0" * 64)
    failed = await copied(daemon, wrong)
    assert failed.error is not None
    assert failed.error.code == TransferFailure.CHECKSUM_MISMATCH.value
    missing = copy_order(back, 335, S3, STORE)
    assert missing.source_file is not None
    missing = evolve(missing, source_file=evolve(missing.source_file, template_id=999))
    failed = await copied(daemon, missing)
    assert failed.error is not None
    assert failed.error.code == TransferFailure.SOURCE_MISSING.value
    assert leftovers(swift) == []
    assert world.job_directories() == []


@pytest_twisted.ensureDeferred
async def test_a_sweep_aborts_uploads_that_nobody_wants(swift: Swift, world: World, daemon: Daemon) -> None:
    wanted = order(world, 340, "counted/image.raw")
    await daemon.call(storage.TEMPLATE_DOWNLOAD, wanted, DownloadStatus)
    await received(daemon, wanted.job_id, 30 * MIB)
    await daemon.close()
    kill_all(world.fetch_pids())
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        another = await Daemon(Path(directory), world).start()
        await set_up(another)
        assert leftovers(swift) != []  # it could continue
        await another.call(storage.STORAGE_SWEEP, StorageSweep(S3, []), StoreStats)
        await another.close()
    assert leftovers(swift) == []


@pytest_twisted.ensureDeferred
async def test_what_nothing_refers_to_is_put_out_of_sight(swift: Swift, world: World, daemon: Daemon) -> None:
    wanted = order(world, 350)
    await daemon.download(wanted, LONG_S)
    put_away = TemplateQuarantine(S3, 2, 350, wanted.job_id)
    await daemon.call(storage.TEMPLATE_QUARANTINE, put_away, Acknowledgement)
    page: TemplateListing = await daemon.call(storage.TEMPLATE_LIST, TemplateListRequest(S3), TemplateListing)
    assert 350 not in [each.template_id for each in page.templates]
    assert len(keys(swift, object_keys.QUARANTINE)) == 1


@pytest_twisted.ensureDeferred
async def test_wrong_keys_are_refused_with_the_reason_and_without_the_secret(
    world: World, daemon: Daemon
) -> None:
    wrong = Store.of_bucket(evolve(KEYLESS, access_key=CREDENTIALS.access_key, secret_key="other-secret"))
    with pytest.raises(RpcError) as refused:
        await daemon.call(storage.STORAGE_SETUP, wrong, StoreStats)
    assert refused.value.reason == TransferFailure.STORE_REFUSES.value
    assert "other-secret" not in f"{refused.value} {refused.value.hint}"
    status = await daemon.download(order(world, 355), LONG_S)
    assert status.state is DownloadState.DOWNLOADED, "the keys from before are still used"


@pytest_twisted.ensureDeferred
async def test_keys_are_replaced_and_what_is_there_is_found_with_the_new_ones(
    swift: Swift, world: World, daemon: Daemon, tmp_path: Path
) -> None:
    before = await daemon.download(order(world, 356), LONG_S)
    keys_of = OTHER_CREDENTIALS
    other = Store.of_bucket(evolve(KEYLESS, access_key=keys_of.access_key, secret_key=keys_of.secret_key))
    await daemon.call(storage.STORAGE_SETUP, other, StoreStats)
    assert object_keys.PROBE not in keys(swift, object_keys.JOBS), "nothing is left of the check"
    swift.set_users([OTHER_CREDENTIALS])
    try:
        after = await daemon.download(order(world, 357), LONG_S)
        assert after.state is DownloadState.DOWNLOADED, after
        link = await link_to(daemon, before)
        assert content(swift, world, link, tmp_path) == IMAGE[:SMALL_SIZE]
    finally:
        swift.set_users(USERS)
        await daemon.call(storage.STORAGE_SETUP, KEYED, StoreStats)


@pytest_twisted.ensureDeferred
async def test_a_link_that_has_expired_or_was_changed_is_refused(
    swift: Swift, world: World, daemon: Daemon, tmp_path: Path
) -> None:
    status = await daemon.download(order(world, 360), LONG_S)
    link = await link_to(daemon, status)
    assert CREDENTIALS.secret_key not in link
    for url in (link.replace("Expires=14400", "Expires=14401"), link.partition("?")[0]):
        with pytest.raises(subprocess.CalledProcessError):
            content(swift, world, url, tmp_path)


@pytest_twisted.ensureDeferred
async def test_a_recording_in_a_bucket_is_stored_read_and_deleted(
    swift: Swift, world: World, daemon: Daemon
) -> None:
    recording_id, prefix = str(uuid.uuid4()), "console-recordings/2/"
    file = IMAGE[: MAX_PIECE_BYTES + 5000]

    async def append(offset: int, count: int) -> int:
        piece = StoredPiece(S3, 2, recording_id, offset, file[offset : offset + count])
        stored: StoredSize = await daemon.call(recording.RECORDING_APPEND, piece, StoredSize)
        return stored.size_bytes

    async def read(offset: int) -> RecordingContent:
        wanted = RecordingRange(S3, 2, recording_id, offset, MAX_PIECE_BYTES)
        found: RecordingContent = await daemon.call(recording.RECORDING_READ, wanted, RecordingContent)
        return found

    async def refusal(call: Any) -> str:
        with pytest.raises(RpcError) as refused:
            await call
        return refused.value.reason

    assert await append(0, MAX_PIECE_BYTES) == MAX_PIECE_BYTES
    assert await append(MAX_PIECE_BYTES, 1000) == MAX_PIECE_BYTES + 1000
    assert await append(MAX_PIECE_BYTES + 1000, 4000) == len(file)
    assert await append(MAX_PIECE_BYTES, 1000) == len(file)  # repeated
    assert len(keys(swift, prefix)) == 2
    assert leftovers(swift, prefix) == []
    assert await read(0) == RecordingContent(file[:MAX_PIECE_BYTES], len(file))
    assert await read(MAX_PIECE_BYTES - 10) == RecordingContent(file[MAX_PIECE_BYTES - 10 :], len(file))
    await daemon.call(recording.RECORDING_DELETE, RecordingPlace(S3, 2, recording_id), Acknowledgement)
    assert keys(swift, prefix) == []
    assert await refusal(append(MAX_PIECE_BYTES, 1000)) == RecordingRefusal.UNKNOWN.value
    assert await refusal(read(0)) == "lost"
