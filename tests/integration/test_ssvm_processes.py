# SPDX-License-Identifier: Apache-2.0
"""Downloads whose processes are killed or aborted, and what a mover is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve

from integration.ssvm_lab.bad_server import BODY
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, daemon, published, world
from integration.ssvm_lab.world import STORE, World, kill_all
from rpc_wait import until
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadState,
    DownloadStatus,
    StoreStats,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures


def _kill(pids: list[int]) -> None:
    assert pids
    kill_all(pids)


@pytest_twisted.ensureDeferred
async def test_progress_flows_and_a_repeated_order_answers_it(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    first = await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    assert first.state is DownloadState.DOWNLOAD_IN_PROGRESS
    await until(lambda: len(daemon.progress) >= 4)
    again = await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    assert again.state is DownloadState.DOWNLOAD_IN_PROGRESS
    assert again.total_bytes == len(BODY)
    received = [status.received_bytes for status in daemon.progress]
    assert received == sorted(received)
    # the connection to the daemon is lost: the end is repeated until it is acknowledged
    daemon.cut_off()
    await until(lambda: world.mover_pids() == [])
    await daemon.connect_agent()
    published(world, await ended)
    known = await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    assert known.state is DownloadState.DOWNLOADED


@pytest_twisted.ensureDeferred
async def test_abort_stops_at_once_and_leaves_nothing(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress))
    assert len(world.job_directories()) == 1
    await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(order.job_id), Acknowledgement)
    assert world.mover_pids() == []
    assert (world.leftovers(), world.job_directories()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_a_killed_mover_is_restarted_once(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress))
    _kill(world.mover_pids())
    published(world, await ended)


@pytest_twisted.ensureDeferred
async def test_a_mover_killed_twice_fails_only_its_job(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    seen: set[int] = set()
    for _ in range(2):
        await until(lambda: bool(set(world.mover_pids()) - seen))
        fresh = set(world.mover_pids()) - seen
        seen.update(fresh)
        _kill(list(fresh))
    status = await ended
    assert status.error is not None
    assert (status.error.code, "signal 9" in status.error.message) == ("worker_died", True)
    assert (world.leftovers(), world.job_directories()) == ([], [])
    published(world, await daemon.download(request(world, f"{BAD}/good")))


@pytest_twisted.ensureDeferred
async def test_movers_are_forked_from_one_warm_process(world: World, daemon: Daemon) -> None:
    """No interpreter starts for an image, and a mover has only the descriptors that it needs."""
    await daemon.download(request(world, f"{BAD}/good", template_id=205))
    servers = world.fork_server_pids()
    assert len(servers) == 1
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    # its own progress, not that of the first one: by then it has all of its descriptors
    await until(lambda: any(one.job_id == order.job_id and one.received_bytes for one in daemon.progress))
    (mover,) = (Path(f"/proc/{pid}") for pid in world.mover_pids())
    opened = {int(path.name): str(path.readlink()) for path in (mover / "fd").iterdir()}
    # standard input and output are /dev/null; then control, source, directory; then an eventfd and the image
    assert (opened[0], opened[1]) == ("/dev/null", "/dev/null")
    kinds = [opened[number].partition(":")[0] for number in sorted(opened) if number >= 3]
    assert kinds[:2] == ["socket", "socket"]
    assert kinds[2].startswith(str(world.store))
    assert sorted(kinds[3:]) in (["anon_inode"], sorted(["anon_inode", f"{kinds[2]}/image"])), opened
    environment = (mover / "environ").read_bytes().split(b"\0")
    assert {entry.partition(b"=")[0] for entry in environment if entry} == {
        b"LC_ALL", b"MALLOC_ARENA_MAX", b"MALLOC_MMAP_THRESHOLD_", b"MALLOC_TRIM_THRESHOLD_",
    }  # fmt: skip
    status = (mover / "status").read_text()
    assert "\nNoNewPrivs:\t1\n" in status
    assert "\nSeccomp:\t2\n" in status
    published(world, await ended)
    assert world.fork_server_pids() == servers


@pytest_twisted.ensureDeferred
async def test_a_killed_fork_server_is_replaced_and_its_jobs_go_on(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress))
    movers, servers = set(world.mover_pids()), world.fork_server_pids()
    _kill(servers)
    await until(lambda: not movers & set(world.mover_pids()))  # no mover outlives the server
    published(world, await ended)
    assert set(world.fork_server_pids()).isdisjoint(servers)


@pytest_twisted.ensureDeferred
async def test_jobs_of_a_killed_fetch_are_restarted_once(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress))
    movers = set(world.mover_pids())
    _kill(world.fetch_pids())
    await until(lambda: not movers & set(world.mover_pids()))  # no mover outlives its fetch
    published(world, await ended)


@pytest_twisted.ensureDeferred
async def test_fetch_killed_twice_ends_the_job(world: World, daemon: Daemon) -> None:
    order = evolve(request(world, f"{BAD}/huge"), max_size_bytes=8 << 30)
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    seen: set[int] = set()
    for _ in range(2):
        await until(lambda: bool(set(world.mover_pids()) - seen) and bool(world.fetch_pids()))
        seen.update(world.mover_pids())
        _kill(world.fetch_pids())
    status = await ended
    assert status.error is not None
    assert status.error.code == "worker_died"
    # the last mover's files are removed when the store is set up, and the agent still runs
    await daemon.call(storage.STORAGE_SETUP, STORE, StoreStats)
    assert (world.leftovers(), world.job_directories()) == ([], [])
