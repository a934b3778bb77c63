# SPDX-License-Identifier: Apache-2.0
"""The usage of a store is measured before a rejection and after changes."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from settling import settled
from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.state import zones
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    DownloadRequest,
    DownloadStatus,
)
from template_downloads import (
    DONE,
    WAITING,
    started,
)


def ended(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, DONE, received_bytes=1, total_bytes=1)


@pytest_twisted.ensureDeferred
async def test_full_store_is_measured_before_it_is_rejected(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 95)
    used = [95, 20]
    cloud.ssvm_peer.answers[storage.STORAGE_STATS] = lambda _: storage.StoreStats(100, used.pop(0))
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    arguments = {"name": "x", "url": "http://x.test/a.qcow2", "format": "QCOW2", "hypervisor": "KVM"}
    with pytest.raises(Exception, match="90% full"):
        await cloud.call("registerTemplate", **arguments)
    assert (await cloud.call("registerTemplate", **arguments))["count"] == 1
    assert len(cloud.ssvm_peer.params_of(storage.STORAGE_STATS)) == 2


@pytest_twisted.ensureDeferred
async def test_store_usage_is_measured_after_deletions_and_downloads(cloud: SmallCloud) -> None:
    used = iter([70, 30])
    cloud.ssvm_peer.answers[storage.STORAGE_STATS] = lambda _: storage.StoreStats(100, next(used))
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = ended
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    template, _ = cloud.add_template(state=WAITING)
    await cloud.dispatch.reconcile()
    await settled(cloud.database)
    assert used_bytes(cloud) == 70
    await cloud.job("deleteTemplate", id=template.uuid)
    await settled(cloud.database)
    assert used_bytes(cloud) == 30


@pytest_twisted.ensureDeferred
async def test_one_measurement_serves_all_waiting_requests(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 95)

    class SlowStats(FakePeer):
        released: Deferred[None] = Deferred()

        async def call(self, method: str, params: Any = None, **more: Any) -> Any:
            answer = await super().call(method, params, **more)
            if method == storage.STORAGE_STATS:
                await self.released
            return answer

    peer = SlowStats()
    peer.answers = {
        storage.STORAGE_STATS: lambda _: storage.StoreStats(100, 1),
        storage.TEMPLATE_DOWNLOAD: started,
    }
    cloud.agents.peers[cloud.ssvm.instance_name] = (Role.SSVM, peer)
    arguments = {"url": "http://x.test/a.qcow2", "format": "QCOW2", "hypervisor": "KVM"}
    calls = [
        Deferred.fromCoroutine(cloud.call("registerTemplate", name=f"t{number}", **arguments))
        for number in range(20)
    ]
    await settled(cloud.database)
    assert peer.calls
    peer.released.callback(None)
    for call in calls:
        assert (await call)["count"] == 1
    assert len(peer.params_of(storage.STORAGE_STATS)) <= 2


def used_bytes(cloud: SmallCloud) -> int | None:
    return cloud.database.run_now(zones.store_by_id, cloud.store.id).used_bytes
