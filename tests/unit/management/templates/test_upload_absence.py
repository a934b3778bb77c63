# SPDX-License-Identifier: Apache-2.0
"""Uploads whose SSVM is away: when they end, what they give back, and when they move to another one."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from small_cloud.agents import FakeAgents
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import schema, uploads
from systemvm.management.state.columns import now
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.upload_ends import GRACE_S, UNBEGUN_GRACE_S
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD
from template_downloads import FAILED, PROGRESS, now_of, refs_of, report, status_of
from template_uploads import SECOND_ADDRESS, add_receiver, begin, receive_uploads, refusal, renew


@pytest.fixture(autouse=True)
def receiver(cloud: SmallCloud) -> None:
    receive_uploads(cloud)


def expire(cloud: SmallCloud, ago_s: float) -> None:
    """Have the URLs of all uploads be invalid for so long."""
    past = now() - timedelta(seconds=ago_s + 1)
    cloud.database.run_now(lambda c: c.execute(schema.template_uploads.update().values(expires=past)))


async def later(cloud: SmallCloud, delay_s: float) -> None:
    await cloud.dispatch.reconcile()
    cloud.clock.advance(delay_s)
    await cloud.dispatch.reconcile()


@pytest_twisted.ensureDeferred
async def test_upload_that_did_not_begin_ends_although_its_ssvm_is_away(cloud: SmallCloud) -> None:
    await begin(cloud, name="waits")
    await begin(cloud, name="runs")
    waits, runs = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(runs.job_id, PROGRESS, 450, 1000))
    cloud.agents.disconnect("s-1-VM")
    await later(cloud, UNBEGUN_GRACE_S)
    assert not now_of(cloud, waits).state.ended
    expire(cloud, UNBEGUN_GRACE_S)
    await cloud.dispatch.reconcile()
    assert now_of(cloud, waits).error_code == "upload_expired"
    assert not now_of(cloud, runs).state.ended


@pytest_twisted.ensureDeferred
async def test_begun_upload_ends_when_its_ssvm_stays_away(cloud: SmallCloud) -> None:
    gib = 1 << 30
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=3)
    params = await begin(cloud, cloud.user)
    [ref] = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, 450, 3 * gib))
    with refusal():
        await begin(cloud, cloud.user, name="no room")
    cloud.agents.disconnect("s-1-VM")
    add_receiver(cloud)
    expire(cloud, GRACE_S)
    await cloud.dispatch.reconcile()  # the SSVM is found away from here on
    await later(cloud, GRACE_S - 1)
    assert not now_of(cloud, ref).state.ended
    await later(cloud, 1)
    ended = now_of(cloud, ref)
    assert (ended.error_code, ended.state) == ("upload_lost", FAILED)
    assert ended.error_text is not None and "60 minutes" in ended.error_text
    assert "renewUploadParamsForTemplate" in (await status_of(cloud))["hint"]
    account = cloud.user.account.id
    assert cloud.database.run_now(uploads.count_of_account, account) == 0
    assert SECOND_ADDRESS in (await begin(cloud, cloud.user, name="room"))["postURL"]
    assert SECOND_ADDRESS in (await renew(cloud, params))["postURL"]


@pytest_twisted.ensureDeferred
async def test_begun_upload_with_a_valid_url_waits_for_its_ssvm(cloud: SmallCloud) -> None:
    await begin(cloud)
    [ref] = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, 450, 1000))
    cloud.agents.disconnect("s-1-VM")
    await cloud.dispatch.reconcile()
    await later(cloud, 2 * GRACE_S)
    assert not now_of(cloud, ref).state.ended


@pytest_twisted.ensureDeferred
async def test_return_of_an_ssvm_renews_the_time_of_its_uploads(cloud: SmallCloud) -> None:
    await begin(cloud)
    [ref] = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, 450, 1000))
    expire(cloud, GRACE_S)
    _, peer = cloud.agents.peers["s-1-VM"]
    for _ in range(3):
        cloud.agents.disconnect("s-1-VM")
        await cloud.dispatch.reconcile()
        await later(cloud, GRACE_S - 1)
        cloud.agents.peers["s-1-VM"] = (Role.SSVM, peer)
        await cloud.dispatch.reconcile()
    assert not now_of(cloud, ref).state.ended


@pytest_twisted.ensureDeferred
async def test_new_daemon_gives_the_ssvm_time_to_connect(cloud: SmallCloud) -> None:
    await begin(cloud, name="waits")
    await begin(cloud, name="runs")
    waits, runs = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(runs.job_id, PROGRESS, 450, 1000))
    expire(cloud, 10 * GRACE_S)  # while there was no daemon
    clock = Clock()
    daemon = DownloadDispatcher(
        clock, cloud.database, FakeAgents(), cloud.settings, TemplateSources(cloud.seal), cloud.orders
    )
    await daemon.reconcile()
    clock.advance(UNBEGUN_GRACE_S - 1)
    await daemon.reconcile()
    assert not any(now_of(cloud, ref).state.ended for ref in (waits, runs))


@pytest_twisted.ensureDeferred
async def test_upload_of_which_nothing_was_received_moves_when_its_ssvm_is_away(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    _, peer = add_receiver(cloud)
    [ref] = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, 0, 1000))
    assert (await renew(cloud, params))["postURL"] == params["postURL"]
    cloud.agents.disconnect("s-1-VM")
    again = await renew(cloud, params)
    assert SECOND_ADDRESS in again["postURL"]
    [moved] = peer.params_of(TEMPLATE_UPLOAD)
    assert moved.job_id != ref.job_id and moved.total_bytes is None
