# SPDX-License-Identifier: Apache-2.0
"""The store as the SSVM's real processes use it: set up, listed, full, foreign or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, daemon, published, world
from integration.ssvm_lab.world import SERVER, STORE, World
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    DownloadState,
    DownloadStatus,
    ImageFormat,
    JobListing,
    Store,
    StoreStats,
    TemplateDelete,
    TemplateListing,
    TemplateListRequest,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_full_store(world: World, daemon: Daemon) -> None:
    filler = world.store / "filler"
    free = shutil.disk_usage(world.store).free
    filler.write_bytes(bytes(free - (2 << 20)))
    known = await daemon.download(request(world, f"{BAD}/good", ImageFormat.RAW))
    published(world, known)
    shutil.rmtree(world.store / "template")
    # a raw image is not refused beforehand, because it can have holes: it fails while it is written
    status = (
        await daemon.download(request(world, f"http://{SERVER}/random.raw"), 30) if _random(world) else known
    )
    assert status.error is not None
    assert status.error.code == "store_full"
    assert "secondary storage is full" in status.error.message
    early = await daemon.download(request(world, f"http://{SERVER}/random.raw", ImageFormat.ISO))
    assert early.error is not None
    assert early.error.code == "store_full"
    assert world.leftovers() == ["filler"]


def _random(world: World) -> bool:
    return bool((world.files / "random.raw").write_bytes(os.urandom(4 << 20)))


@pytest_twisted.ensureDeferred
async def test_setup_stats_and_delete(world: World, daemon: Daemon) -> None:
    left = world.store / ".systemvm-jobs/s-1-VM/forgotten"
    foreign = world.store / ".systemvm-jobs/s-9-VM/busy"
    for path in (left, foreign):
        path.mkdir(parents=True)
        (path / "image").write_bytes(b"part")
    stats = await daemon.call(storage.STORAGE_SETUP, STORE, StoreStats)
    assert stats.capacity_bytes == 96 << 20
    assert not left.exists()
    assert foreign.exists(), "the job of another SSVM was removed"
    assert {path.name for path in world.store.iterdir()} >= {"template", "snapshots", "volumes"}
    order = request(world, f"{BAD}/good")
    published_path = None
    status = await daemon.download(order)
    published_path = world.store / str(status.install_path)
    assert published_path.exists()
    assert (await daemon.call(storage.STORAGE_STATS, STORE, StoreStats)).used_bytes >= 1 << 20
    for _ in range(2):
        await daemon.call(
            storage.TEMPLATE_DELETE, TemplateDelete(order.job_id, STORE, 2, 204), Acknowledgement
        )
        assert not published_path.parent.exists()
    assert world.leftovers() == [".systemvm-jobs/s-9-VM/busy/image"]


@pytest_twisted.ensureDeferred
async def test_a_published_job_is_found_by_a_restarted_agent(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/good")
    done = await daemon.download(order)
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        try:
            found = await other.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
        finally:
            await other.close()
    assert (found.state, found.install_path) == (DownloadState.DOWNLOADED, done.install_path)


@pytest_twisted.ensureDeferred
async def test_planted_links_are_not_followed(world: World, daemon: Daemon, tmp_path: Path) -> None:
    """Another client of the store can create links there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    (world.store / "template/tmpl").mkdir(parents=True)
    (world.store / "template/tmpl/2").symlink_to(outside)
    with pytest.raises(RpcError) as refused:
        await daemon.download(request(world, f"{BAD}/good"))
    assert refused.value.reason == "store_failed"
    with pytest.raises(RpcError):
        await daemon.call(storage.TEMPLATE_DELETE, TemplateDelete("x", STORE, 2, 204), Acknowledgement)
    assert [path.name for path in outside.iterdir()] == ["keep"]


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (Store("127.0.0.1", "/export"), "store_unreachable"),
        (Store("storage.example.test", "/export"), "request_invalid"),
        (Store("10.12.0.2", "relative"), "request_invalid"),
        (Store("10.12.0.2", "/a/../b"), "request_invalid"),
        (Store("10.12.0.2", "/export", "9"), "request_invalid"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_store_that_cannot_be_mounted(world: World, daemon: Daemon, store: Store, reason: str) -> None:
    for call in (
        lambda: daemon.call(storage.STORAGE_SETUP, store, StoreStats),
        lambda: daemon.call(
            storage.TEMPLATE_DOWNLOAD, request(world, f"{BAD}/good", store=store), DownloadStatus
        ),
    ):
        with pytest.raises(RpcError) as refused:
            await call()
        assert refused.value.reason == reason
        assert refused.value.message


@pytest_twisted.ensureDeferred
async def test_one_request_id_is_in_the_log_of_every_process(world: World, daemon: Daemon) -> None:
    log: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        log.append(formatEvent(event))

    globalLogPublisher.addObserver(cast(ILogObserver, observe))
    try:
        published(world, await daemon.download(request(world, f"{BAD}/good", request_id="req-4711")))
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, observe))
    assert [line for line in log if "req-4711" in line], "the agent, which runs in this process"
    fetch = [line for line in world.log_of("fetch").splitlines() if "req-4711" in line]
    assert [line for line in fetch if "begins, template" in line], "fetch"
    assert [line for line in fetch if "mover of job" in line], "its mover"


@pytest_twisted.ensureDeferred
async def test_a_store_is_listed_and_an_absent_one_is_an_error(world: World, daemon: Daemon) -> None:
    wanted = request(world, f"{BAD}/good")
    published(world, await daemon.download(wanted))
    first_page = TemplateListRequest(STORE)
    listing: TemplateListing = await daemon.call(storage.TEMPLATE_LIST, first_page, TemplateListing)
    [listed] = listing.templates
    assert (listed.account_id, listed.template_id, listed.job_id) == (2, 204, wanted.job_id)
    assert listing.next == ""
    jobs: JobListing = await daemon.call(storage.STORAGE_JOBS, None, JobListing)
    assert [job.job_id for job in jobs.jobs if job.job_id == wanted.job_id] == [wanted.job_id]
    with pytest.raises(RpcError) as refused:
        absent = TemplateListRequest(Store(STORE.server, "/no/such/export"))
        await daemon.call(storage.TEMPLATE_LIST, absent, TemplateListing)
    assert refused.value.reason, "an absent store must be an error, not an empty page"
