# SPDX-License-Identifier: Apache-2.0
"""Downloads whose processes die in the middle: they continue from the journal on the store."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import daemon
from integration.ssvm_lab.world import NAME, STORE, Builder, World, kill_all
from rpc_wait import until
from systemvm.wire import storage
from systemvm.wire.storage import DownloadState, DownloadStatus, StorageSweep, StoreStats

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon"]  # a fixture

LARGE_BYTES = 112 << 20
#: Behind two checkpoints at least.
KILL_AFTER_BYTES = 50 << 20
MOST_TWICE_BYTES = 64 << 20


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "256m") as built:
        yield built


class Paced:
    """A download of a large file at a pace that leaves time for a kill."""

    def __init__(self, world: World, daemon: Daemon) -> None:
        self.data = os.urandom(LARGE_BYTES)
        (world.files / "paced.raw").write_bytes(self.data)
        checksum = f"{{SHA-256}}{hashlib.sha256(self.data).hexdigest()}"
        self.order = request(world, f"http://{NAME}/counted/paced.raw", checksum=checksum)
        self._world, self._daemon = world, daemon
        world.access_log.write_text("")

    async def begin(self) -> None:
        await self._daemon.call(storage.TEMPLATE_DOWNLOAD, self.order, DownloadStatus)
        await until(lambda: self.received() > KILL_AFTER_BYTES)

    def received(self) -> int:
        mine = [one for one in self._daemon.progress if one.job_id == self.order.job_id]
        return mine[-1].received_bytes if mine else 0

    def check(self, status: DownloadStatus) -> None:
        assert status.state is DownloadState.DOWNLOADED, status.error
        assert (self._world.store / str(status.install_path)).read_bytes() == self.data
        sent = sum(int(line) for line in self._world.access_log.read_text().split())
        assert sent - len(self.data) <= MOST_TWICE_BYTES


@pytest.mark.parametrize("victim", ["mover", "fork server", "fetch"])
@pytest_twisted.ensureDeferred
async def test_a_process_killed_in_the_middle_costs_64_mib_at_most(
    world: World, daemon: Daemon, victim: str
) -> None:
    paced = Paced(world, daemon)
    ended = daemon.end_of(paced.order.job_id)
    await paced.begin()
    pids = {
        "mover": world.mover_pids,
        "fork server": world.fork_server_pids,
        "fetch": world.fetch_pids,
    }[victim]()
    assert pids
    kill_all(pids)
    paced.check(await ended)


@pytest_twisted.ensureDeferred
async def test_a_new_agent_and_a_new_fetch_continue_what_the_store_has(world: World, daemon: Daemon) -> None:
    """As after a power cut of the VM: only what is on the store is known."""
    paced = Paced(world, daemon)
    await paced.begin()
    await daemon.close()
    kill_all(world.fetch_pids())
    await until(lambda: world.mover_pids() == [])
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        try:
            await other.call(storage.STORAGE_SETUP, STORE, StoreStats)
            assert world.job_directories() == [f".systemvm-jobs/s-1-VM/{paced.order.job_id}"]
            paced.check(await other.download(paced.order))
        finally:
            await other.close()


@pytest_twisted.ensureDeferred
async def test_parts_of_downloads_that_nobody_wants_are_removed(world: World, daemon: Daemon) -> None:
    left = world.store / ".systemvm-jobs/s-1-VM/left"
    left.mkdir(parents=True)
    (left / "journal").write_bytes(b"x")
    (left / "image").write_bytes(b"part")
    await daemon.call(storage.STORAGE_SETUP, STORE, StoreStats)
    assert left.exists(), "it could continue"
    await daemon.call(storage.STORAGE_SWEEP, StorageSweep(STORE, ["left"]), StoreStats)
    assert left.exists()
    await daemon.call(storage.STORAGE_SWEEP, StorageSweep(STORE, []), StoreStats)
    assert not left.exists()
