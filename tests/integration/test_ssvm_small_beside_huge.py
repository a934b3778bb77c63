# SPDX-License-Identifier: Apache-2.0
"""A small download is Ready soon although huge ones have all places of the SSVM and keep them."""

from __future__ import annotations

import pytest
import pytest_twisted
from attrs import evolve

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, daemon, world
from integration.ssvm_lab.world import World
from rpc_wait import until
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import MAX_ACTIVE_DOWNLOADS, DownloadAbort, DownloadState, DownloadStatus

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_a_small_download_passes_huge_ones(world: World, daemon: Daemon) -> None:
    huge = [
        evolve(request(world, f"{BAD}/huge", max_size_bytes=8 << 30), template_id=300 + number)
        for number in range(MAX_ACTIVE_DOWNLOADS)
    ]
    for each in huge:
        await daemon.call(storage.TEMPLATE_DOWNLOAD, each, DownloadStatus)

    def newest(job_id: str) -> DownloadStatus | None:
        return next((each for each in reversed(daemon.progress) if each.job_id == job_id), None)

    # each is receiving or lets smaller ones go first
    await until(
        lambda: all(
            (status := newest(each.job_id)) is not None and (status.received_bytes or status.waits_for_turn)
            for each in huge
        ),
        120,
    )
    waiting = [status for each in huge if (status := newest(each.job_id)) and status.waits_for_turn]
    assert waiting
    ended = await daemon.download(request(world, f"{BAD}/good"), 60)
    assert ended.state is DownloadState.DOWNLOADED
    assert [each.job_id for each in daemon.finished] == [ended.job_id]
    for each in huge:
        await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(each.job_id), Acknowledgement)
