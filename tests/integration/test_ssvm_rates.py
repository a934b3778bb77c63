# SPDX-License-Identifier: Apache-2.0
"""Downloads are as slow as they have to be; only lower bounds of time, as a slow machine is slower."""

from __future__ import annotations

import os
import time

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.world import NAME, World
from rpc_wait import until
from systemvm.ssvm.limits import KIB, MIB
from systemvm.wire import storage
from systemvm.wire.storage import DownloadState, DownloadStatus, TransferRates

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures

#: What a mover reads before it waits for the first time, and sockets and clocks.
SLACK_S = 1.0


def make_file(world: World, name: str, size_bytes: int) -> bytes:
    data = os.urandom(size_bytes)
    (world.files / name).write_bytes(data)
    return data


@pytest_twisted.ensureDeferred
async def test_a_download_keeps_its_rate(world: World, daemon: Daemon) -> None:
    data = make_file(world, "own.raw", 2 * MIB)
    rates = TransferRates(download_bytes_per_s=512 * KIB)
    begun_s = time.monotonic()
    ended = await daemon.download(request(world, f"http://{NAME}/own.raw", rates=rates), 120)
    assert ended.state is DownloadState.DOWNLOADED, ended.error
    assert (world.store / str(ended.install_path)).read_bytes() == data
    assert time.monotonic() - begun_s >= 4.0 - SLACK_S


@pytest_twisted.ensureDeferred
async def test_downloads_keep_the_total_together(world: World, daemon: Daemon) -> None:
    make_file(world, "total.raw", MIB)
    rates = TransferRates(total_bytes_per_s=512 * KIB)
    begun_s = time.monotonic()
    waiting = [
        Deferred.fromCoroutine(
            daemon.download(
                evolve(request(world, f"http://{NAME}/total.raw", rates=rates), template_id=400 + number), 120
            )
        )
        for number in range(3)
    ]
    for each in waiting:
        assert (await each).state is DownloadState.DOWNLOADED
    assert time.monotonic() - begun_s >= 6.0 - SLACK_S


@pytest_twisted.ensureDeferred
async def test_a_rate_that_is_lifted_holds_for_a_download_that_runs(world: World, daemon: Daemon) -> None:
    data = make_file(world, "live.raw", 40 * MIB)
    slow = request(world, f"http://{NAME}/live.raw", rates=TransferRates(download_bytes_per_s=64 * KIB))
    ended = daemon.end_of(slow.job_id, 120)  # at this rate it would take more than ten minutes
    await daemon.call(storage.TEMPLATE_DOWNLOAD, slow, DownloadStatus)
    await until(
        lambda: any(each.job_id == slow.job_id and each.received_bytes for each in daemon.progress), 60
    )
    await daemon.call(storage.TEMPLATE_DOWNLOAD, evolve(slow, rates=TransferRates()), DownloadStatus)
    status = await ended
    assert status.state is DownloadState.DOWNLOADED, status.error
    assert (world.store / str(status.install_path)).read_bytes() == data
