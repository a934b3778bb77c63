# SPDX-License-Identifier: Apache-2.0
"""Templates are deleted with their files, at once or when an SSVM is Up."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.templates.ssvm_calls import RETRY_LAST_S
from systemvm.rpc.core.errors import RpcError
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
    begin,
    now_of,
    report,
    started,
)


@pytest_twisted.ensureDeferred
async def test_deleted_template_is_removed_with_its_files_at_once(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert job.result == {"success": True}
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)
    assert (order.account_id, order.template_id) == (template.account_id, template.id)
    assert await cloud.call("listTemplates", templatefilter="all") == {}
    assert now_of(cloud, ref).removed is not None


@pytest_twisted.ensureDeferred
async def test_files_are_deleted_later_when_no_ssvm_is_up(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    cloud.agents.disconnect("s-1-VM")
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert "when a secondary storage VM is Up" in job.result["displaytext"]
    assert await cloud.call("listTemplates", templatefilter="all") == {}
    peer = cloud.agents.connect("s-1-VM", Role.SSVM)
    peer.answers[storage.TEMPLATE_DELETE] = lambda _: RpcError.refused("store_failed", "not now")
    await cloud.dispatch.reconcile()
    assert now_of(cloud, ref).removed is None
    cloud.clock.advance(RETRY_LAST_S)
    peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    await cloud.dispatch.reconcile()
    assert now_of(cloud, ref).removed is not None


@pytest_twisted.ensureDeferred
async def test_deleting_during_a_download_aborts_it(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template(state=WAITING)
    await begin(cloud)
    cloud.ssvm_peer.answers |= {
        storage.TEMPLATE_ABORT: lambda _: Acknowledgement(),
        storage.TEMPLATE_DELETE: lambda _: Acknowledgement(),
    }
    await cloud.job("deleteTemplate", id=template.uuid)
    assert [order.job_id for order in cloud.ssvm_peer.params_of(storage.TEMPLATE_ABORT)] == [ref.job_id]
    cloud.ssvm_peer.calls.clear()
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, DONE, 1, 1))
    await cloud.dispatch.reconcile()
    methods = {method for method, _ in cloud.ssvm_peer.calls}
    assert methods <= {storage.STORAGE_STATS}, "it is neither downloaded nor deleted again"


@pytest_twisted.ensureDeferred
async def test_deletion_waits_for_the_call_about_its_download(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(state=WAITING)
    entered: Deferred[DownloadRequest] = Deferred()
    release: Deferred[None] = Deferred()

    class SlowPeer(FakePeer):
        async def call(self, method: str, params: Any = None, **more: Any) -> Any:
            if method == storage.TEMPLATE_DOWNLOAD and not entered.called:
                entered.callback(params)
                await release
            return await super().call(method, params, **more)

    peer = SlowPeer()
    peer.answers = {
        storage.TEMPLATE_DOWNLOAD: started,
        storage.TEMPLATE_ABORT: lambda _: Acknowledgement(),
        storage.TEMPLATE_DELETE: lambda _: Acknowledgement(),
    }
    cloud.agents.peers["s-1-VM"] = (Role.SSVM, peer)
    scan = Deferred.fromCoroutine(cloud.dispatch.reconcile())
    await entered
    other = Deferred.fromCoroutine(cloud.dispatch.reconcile())
    await other
    assert peer.calls == [], "another pass makes no second call"
    job = await cloud.call("deleteTemplate", id=template.uuid)
    release.callback(None)
    await scan
    assert (await cloud.jobs.wait(job["jobid"])).result == {"success": True}
    assert [method for method, _ in peer.calls if method != storage.STORAGE_STATS] == [
        storage.TEMPLATE_DOWNLOAD,
        storage.TEMPLATE_ABORT,
        storage.TEMPLATE_DELETE,
    ]
