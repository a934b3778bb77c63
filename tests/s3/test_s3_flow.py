# SPDX-License-Identifier: Apache-2.0
"""Image stores that are buckets, by the SSVM's real processes on a real S3 server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.world import SERVER, STORE, Builder, World, run
from rpc_wait import until
from s3.swift import BUCKET, CREDENTIALS, PLAIN, PORT, Swift
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.s3 import listing, object_keys
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_PRESIGN, PresignedLink, PresignRequest
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import (
    CopyRequest,
    DownloadAbort,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    PublishedFile,
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

#: Swift's address for the SSVM, on a network of its own.
ENDPOINT, VM = "10.13.0.2", "10.13.0.1"
KEYLESS = S3Bucket(ENDPOINT, PORT, BUCKET, is_tls=False)
KEYED = Store.of_bucket(evolve(KEYLESS, access_key=CREDENTIALS.access_key, secret_key=CREDENTIALS.secret_key))
S3 = Store.of_bucket(KEYLESS)
#: Swift is slow where eight things run at a time, and nothing here tests a timeout.
PATIENT = {"retry_base_delay_s": 0.05, "retry_max_delay_s": 0.5}
LONG_S = 600.0
SIZE, SMALL_SIZE = 72 * MIB + 512, 20 * MIB + 512
IMAGE = random.Random(7).randbytes(SIZE)


@pytest.fixture(scope="module")
def world(swift: Swift) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm3") as directory:
        with Builder(Path(directory), store_size="256m", limits=PATIENT) as built:
            run(
                "ip", "-n", swift.namespace, "link", "add", "vm0", "type", "veth",
                "peer", "name", "s3", "netns", built.vm_namespace,
            )  # fmt: skip
            for name, device, address in (
                (swift.namespace, "vm0", ENDPOINT),
                (built.vm_namespace, "s3", VM),
            ):
                run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
                run("ip", "-n", name, "link", "set", device, "up")
            (built.files / "image.raw").write_bytes(IMAGE)
            (built.files / "small.raw").write_bytes(IMAGE[:SMALL_SIZE])
            yield built


@pytest_twisted.async_yield_fixture
async def daemon(world: World) -> Any:
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        started = await Daemon(Path(directory), world).start()
        await set_up(started)
        await started.call(storage.STORAGE_SETUP, STORE, StoreStats)
        yield started
        await started.close()


async def set_up(daemon: Daemon) -> None:
    """Send the keys, and again while fetch starts, as the daemon does."""
    while True:
        try:
            await daemon.call(storage.STORAGE_SETUP, KEYED, StoreStats)
        except RpcError as error:
            assert error.reason == TransferFailure.BUSY.value, error
            await deferLater(reactor, 0.2)
        else:
            return


def order(world: World, template_id: int, path: str = "small.raw", **more: Any) -> DownloadRequest:
    values: dict[str, Any] = {"store": S3, "template_id": template_id, "unique_name": f"{template_id}-2-test"}
    return request(world, f"http://{SERVER}/{path}", **(values | more))


def copy_order(status: DownloadStatus, template_id: int, source: Store, store: Store) -> CopyRequest:
    assert status.install_path is not None
    _, _, account, number, name = status.install_path.split("/")
    return CopyRequest(
        job_id=str(uuid.uuid4()), request_id="r-1", template_id=template_id, account_id=2,
        unique_name=f"{template_id}-2-test", description="copy", format=ImageFormat.RAW, source=source,
        source_file=PublishedFile(int(account), int(number), name), store=store,
        virtual_size_bytes=SMALL_SIZE,
        source_checksum=status.image_checksum or status.checksum, checksum=status.checksum,
    )  # fmt: skip


async def copied(daemon: Daemon, copy: CopyRequest) -> DownloadStatus:
    ended = daemon.end_of(copy.job_id, LONG_S)
    status: DownloadStatus = await daemon.call(storage.TEMPLATE_COPY, copy, DownloadStatus)
    return status if status.state.ended else await ended


def keys(swift: Swift, prefix: str) -> list[str]:
    return [each.key for each in listing.objects(swift.client(PLAIN), prefix)]


def leftovers(swift: Swift) -> list[str]:
    """Return marks of jobs and unfinished uploads."""
    uploads = [each.key for each in listing.uploads(swift.client(PLAIN), object_keys.TEMPLATES)]
    return [*keys(swift, object_keys.JOBS), *uploads]


def content(swift: Swift, world: World, url: str, directory: Path) -> bytes:
    """Return what curl downloads by a link, in the network of the SSVM."""
    file = directory / "downloaded"
    world.in_vm("curl", "--silent", "--show-error", "--fail", "--output", str(file), url)
    return file.read_bytes()


async def link_to(daemon: Daemon, status: DownloadStatus, expires_s: int = 14400) -> str:
    assert status.install_path is not None
    _, _, account, number, name = status.install_path.split("/")
    file = PublishedFile(int(account), int(number), name)
    link: PresignedLink = await daemon.call(
        EXTRACT_PRESIGN, PresignRequest(S3, file, expires_s), PresignedLink
    )
    return link.url


async def received(daemon: Daemon, job_id: str, at_least: int) -> None:
    def has_received() -> bool:
        return any(each.job_id == job_id and each.received_bytes >= at_least for each in daemon.progress)

    await until(has_received, LONG_S)


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
        for pid in world.mover_pids() if victim == "mover" else world.fetch_pids():
            os.kill(pid, signal.SIGKILL)
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
    for pid in world.fetch_pids():
        os.kill(pid, signal.SIGKILL)
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
async def test_wrong_keys_are_refused_with_the_reason_and_without_the_secret(daemon: Daemon) -> None:
    wrong = Store.of_bucket(evolve(KEYLESS, access_key=CREDENTIALS.access_key, secret_key="other-secret"))
    with pytest.raises(RpcError) as refused:
        await daemon.call(storage.STORAGE_SETUP, wrong, StoreStats)
    assert refused.value.reason == TransferFailure.STORE_REFUSES.value
    assert "other-secret" not in f"{refused.value} {refused.value.hint}"
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
