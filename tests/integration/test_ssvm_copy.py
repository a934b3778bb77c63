# SPDX-License-Identifier: Apache-2.0
"""Copies between two stores whose processes die or hang in the middle: they continue, or end at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon
from integration.ssvm_lab.world import STORE, Builder, World, run
from rpc_wait import until
from systemvm.service.slowness import scaled_s
from systemvm.ssvm.store_messages import mount_id
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    CopyRequest,
    DownloadAbort,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    PublishedFile,
    Store,
    StoreStats,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon"]  # a fixture

SOURCE = Store("10.12.0.2", "/export/other")
LARGE_BYTES = 192 << 20
#: Behind several checkpoints.
KILL_AFTER_BYTES = 100 << 20
MOST_TWICE_BYTES = 64 << 20


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "300m") as built:
        source = built.paths.mount_root / mount_id(SOURCE)
        source.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=300m", f"{SOURCE.server}:{SOURCE.path}", str(source))
        try:
            yield built
        finally:
            run("umount", str(source))


class Copying:
    """A copy of a large image, whose process a test can stop at any byte."""

    def __init__(self, world: World, daemon: Daemon) -> None:
        self._world, self.daemon = world, daemon
        file = world.paths.mount_root / mount_id(SOURCE) / "template/tmpl/2/204/x.raw"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as image:
            for _ in range(LARGE_BYTES >> 20):
                image.write(os.urandom(1 << 20))
        with file.open("rb") as image:
            self.checksum = f"{{SHA-256}}{hashlib.file_digest(image, 'sha256').hexdigest()}"
        self.order = CopyRequest(
            str(uuid.uuid4()), "r-1", 204, 2, "204-2-test", "a copy", ImageFormat.RAW, SOURCE,
            PublishedFile(2, 204, "x.raw"), STORE, LARGE_BYTES, self.checksum,
        )  # fmt: skip
        self.image = world.store / f".systemvm-jobs/s-1-VM/{self.order.job_id}/image"

    async def begin(self) -> DownloadStatus:
        status: DownloadStatus = await self.daemon.call(storage.TEMPLATE_COPY, self.order, DownloadStatus)
        return status

    async def stop_in_the_middle(self) -> int:
        """Stop the child that copies; return its process id."""
        child = await deferToThread(self._stop_half_done)
        assert self.image.stat().st_size < LARGE_BYTES, "it was too fast for this test"
        return child

    def _stop_half_done(self) -> int:
        """Look without a pause: all of it is copied within a second."""
        deadline_s = time.monotonic() + scaled_s(60.0)
        children: list[int] = []
        while not children or self.image.stat().st_size <= KILL_AFTER_BYTES:
            assert time.monotonic() < deadline_s, "it is not half done"
            children = children or self._children()
        [child] = children
        os.kill(child, signal.SIGSTOP)
        return child

    def begun_at(self, index: int) -> int:
        """Return where the copying began that reported from entry `index` on."""
        mine = [one for one in self.daemon.progress if one.job_id == self.order.job_id]
        return next(one.received_bytes for one in mine[index:] if one.total_bytes)

    def check(self, status: DownloadStatus) -> None:
        assert status.state is DownloadState.DOWNLOADED, status.error
        with (self._world.store / str(status.install_path)).open("rb") as image:
            digest = hashlib.file_digest(image, "sha256").hexdigest()
        assert self.checksum == f"{{SHA-256}}{digest}" == status.image_checksum
        assert self._world.job_directories() == []

    def _children(self) -> list[int]:
        """Return the processes that have the image open; other children wait for calls."""
        return [pid for pid in self._world.store_helper_pids() if _has_open(pid, self.image)]


def _has_open(pid: int, file: Path) -> bool:
    with suppress(OSError):  # it ends
        return any(each.resolve() == file for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest_twisted.ensureDeferred
async def test_a_copy_whose_process_is_killed_continues(world: World, daemon: Daemon) -> None:
    copying = Copying(world, daemon)
    ended = daemon.end_of(copying.order.job_id)
    await copying.begin()
    child = await copying.stop_in_the_middle()
    had, seen = copying.image.stat().st_size, len(daemon.progress)
    os.kill(child, signal.SIGKILL)
    copying.check(await ended)
    assert had - copying.begun_at(seen) <= MOST_TWICE_BYTES


@pytest_twisted.ensureDeferred
async def test_a_new_agent_continues_what_the_store_has(world: World, daemon: Daemon) -> None:
    """As after a power cut of the VM: only what is on the store is known."""
    copying = Copying(world, daemon)
    await copying.begin()
    child = await copying.stop_in_the_middle()
    had = copying.image.stat().st_size
    await daemon.close()
    with suppress(ProcessLookupError):  # the helper may have ended it with its client
        os.kill(child, signal.SIGKILL)
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        copying.daemon = other
        try:
            await other.call(storage.STORAGE_SETUP, STORE, StoreStats)
            ended = other.end_of(copying.order.job_id)
            await copying.begin()
            copying.check(await ended)
            assert had - copying.begun_at(0) <= MOST_TWICE_BYTES
        finally:
            await other.close()


@pytest_twisted.ensureDeferred
async def test_an_abort_waits_for_no_store(world: World, daemon: Daemon) -> None:
    copying = Copying(world, daemon)
    await copying.begin()
    child = await copying.stop_in_the_middle()
    [helper] = [pid for pid in world.store_helper_pids() if pid == _parent_of(child)]
    os.kill(helper, signal.SIGSTOP)  # no call of the store is answered now
    try:
        # answered while the helper is stopped: it does not wait for it
        await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(copying.order.job_id), Acknowledgement)
    finally:
        os.kill(helper, signal.SIGCONT)
    await until(lambda: world.job_directories() == [])
    assert child not in world.store_helper_pids()
    assert daemon.finished == []


@pytest_twisted.ensureDeferred
async def test_a_copy_that_is_discarded_leaves_nothing(world: World, daemon: Daemon) -> None:
    copying = Copying(world, daemon)
    source = world.paths.mount_root / mount_id(SOURCE) / "template/tmpl/2/204/x.raw"
    with source.open("r+b") as image:
        image.write(b"damaged")
    ended = daemon.end_of(copying.order.job_id)
    await copying.begin()
    status = await ended
    assert status.error is not None
    assert status.error.code == "checksum_mismatch"
    assert world.job_directories() == []
    shutil.rmtree(source.parent)
