# SPDX-License-Identifier: Apache-2.0
"""Which SSVM receives an upload, and what becomes of that when the SSVM restarts, is busy or is destroyed."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from small_cloud.agents import FakeAgents
from systemvm.management.state import instances, uploads
from systemvm.management.state.status import InstanceState
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.sources import TemplateSources
from systemvm.rpc.core.errors import BUSY, METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.agent import Capability
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD
from template_downloads import DONE, FAILED, PROGRESS, refs_of, register, report, status_of
from template_uploads import (
    ADDRESS,
    SECOND_ADDRESS,
    add_receiver,
    begin,
    orders,
    receive_uploads,
    refusal,
    renew,
    state_of,
)


@pytest.fixture(autouse=True)
def receiver(cloud: SmallCloud) -> None:
    receive_uploads(cloud)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reason", ["nobody is Up", "older image", "busy"])
async def test_without_an_ssvm_nothing_is_left(cloud: SmallCloud, reason: str) -> None:
    if reason == "nobody is Up":
        cloud.agents.disconnect("s-1-VM")
    else:
        code = METHOD_NOT_FOUND if reason == "older image" else BUSY
        cloud.ssvm_peer.answers[TEMPLATE_UPLOAD] = lambda _: RpcError(code, f"it is {reason}")
    with refusal() as refused:
        await begin(cloud)
    assert refused[0].code == 534 and refused[0].hint
    assert await cloud.call("listTemplates", templatefilter="all") == {}
    cloud.agents.peers.setdefault("s-1-VM", (Role.SSVM, cloud.ssvm_peer))
    cloud.dispatch.agent_up("s-1-VM")
    await cloud.dispatch.reconcile()
    assert all(ref.removed for ref in refs_of(cloud))
    assert cloud.database.run_now(uploads.rows.all) == []


@pytest_twisted.ensureDeferred
async def test_ssvm_with_the_fewest_uploads_receives_and_another_one_instead(cloud: SmallCloud) -> None:
    _, peer = add_receiver(cloud)
    assert ADDRESS in (await begin(cloud, name="a"))["postURL"]
    assert SECOND_ADDRESS in (await begin(cloud, name="b"))["postURL"]
    cloud.ssvm_peer.answers[TEMPLATE_UPLOAD] = lambda _: RpcError(BUSY, "64 uploads are waiting")
    assert SECOND_ADDRESS in (await begin(cloud, name="c"))["postURL"]
    assert len(peer.params_of(TEMPLATE_UPLOAD)) == 2


@pytest_twisted.ensureDeferred
async def test_ssvm_of_an_older_image_receives_no_uploads(cloud: SmallCloud) -> None:
    """A patch brings it the code, and no socket for it."""
    cloud.agents.lacking.add(("s-1-VM", Capability.UPLOADS))
    with refusal() as refused:
        await begin(cloud)
    assert refused[0].code == 534
    assert "s-1-VM is too old" in refused[0].message and "restart s-1-VM" in refused[0].hint
    assert orders(cloud) == [] and refs_of(cloud) == []
    add_receiver(cloud)
    assert SECOND_ADDRESS in (await begin(cloud))["postURL"]


@pytest_twisted.ensureDeferred
async def test_restarted_ssvm_gets_the_order_again(cloud: SmallCloud) -> None:
    await begin(cloud)
    status = DownloadStatus(orders(cloud)[0].job_id, PROGRESS, 450, 1000)
    await report(cloud, storage.TEMPLATE_PROGRESS, status)
    cloud.dispatch.agent_up("s-1-VM")
    await cloud.dispatch.reconcile()
    first, again = orders(cloud)
    assert again.job_id == first.job_id and again.signature == first.signature
    assert (first.total_bytes, again.total_bytes) == (None, 1000)


@pytest_twisted.ensureDeferred
async def test_new_daemon_sends_the_same_order(cloud: SmallCloud) -> None:
    await begin(cloud)
    [first] = orders(cloud)
    agents = FakeAgents()
    peer = agents.connect("s-1-VM", Role.SSVM)
    peer.answers[TEMPLATE_UPLOAD] = lambda request: DownloadStatus(request.job_id, DONE, 1, 1)
    await DownloadDispatcher(
        Clock(), cloud.database, agents, cloud.settings, TemplateSources(cloud.seal), cloud.orders
    ).reconcile()
    assert peer.params_of(TEMPLATE_UPLOAD) == [first]
    assert (await state_of(cloud))[2]


@pytest_twisted.ensureDeferred
async def test_upload_waits_for_its_ssvm_and_no_other_one_gets_it(cloud: SmallCloud) -> None:
    _, peer = add_receiver(cloud)
    params = await begin(cloud)
    status = DownloadStatus(orders(cloud)[0].job_id, PROGRESS, 450, 1000)
    await report(cloud, storage.TEMPLATE_PROGRESS, status)
    cloud.agents.disconnect("s-1-VM")
    await cloud.dispatch.reconcile()
    row = await status_of(cloud)
    assert row["hint"] == "Waiting for s-1-VM to connect again; the upload then continues."
    assert peer.params_of(TEMPLATE_UPLOAD) == []
    with refusal() as refused:
        await renew(cloud, params)
    assert refused[0].code == 534 and "s-1-VM" in refused[0].message


@pytest_twisted.ensureDeferred
async def test_busy_ssvm_keeps_its_upload(cloud: SmallCloud) -> None:
    await begin(cloud)
    add_receiver(cloud)
    cloud.ssvm_peer.answers[TEMPLATE_UPLOAD] = lambda _: RpcError(BUSY, "later")
    cloud.dispatch.agent_up("s-1-VM")
    await cloud.dispatch.reconcile()
    [ref] = refs_of(cloud)
    assert ref.agent_name == "s-1-VM" and ref.error_code == "busy"


@pytest_twisted.ensureDeferred
async def test_destroyed_ssvm_ends_its_uploads_and_another_one_receives_them(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    add_receiver(cloud)
    cloud.agents.disconnect("s-1-VM")
    cloud.database.run_now(instances.remove, cloud.ssvm.id, InstanceState.EXPUNGING)
    await cloud.dispatch.reconcile()
    [ref] = refs_of(cloud)
    assert (ref.error_code, ref.state) == ("upload_lost", FAILED)
    assert "s-1-VM was destroyed" in (await state_of(cloud))[1]
    assert SECOND_ADDRESS in (await renew(cloud, params))["postURL"]


@pytest_twisted.ensureDeferred
async def test_uploads_take_no_places_of_downloads(cloud: SmallCloud) -> None:
    for number in range(storage.MAX_ACTIVE_DOWNLOADS + 1):
        await begin(cloud, name=f"upload {number}")
    register(cloud, cloud.admin.account.id, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda r: DownloadStatus(r.job_id, PROGRESS, 0, 9)
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == 1


@pytest_twisted.ensureDeferred
async def test_deletion_aborts_a_running_upload(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    job = await cloud.job("deleteTemplate", id=params["id"])
    assert job.status == 1
    [order] = orders(cloud)
    assert [each.job_id for each in cloud.ssvm_peer.params_of(storage.TEMPLATE_ABORT)] == [order.job_id]
    assert [each.job_id for each in cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)] == [order.job_id]
    assert cloud.database.run_now(uploads.rows.all) == []
    cloud.dispatch.agent_up("s-1-VM")
    await cloud.dispatch.reconcile()
    assert orders(cloud) == [order]
