# SPDX-License-Identifier: Apache-2.0
"""Templates in buckets for what can only read files: links of SSVMs, and hosts."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.image_stores.staging import POLL_INTERVAL_S, Staging, StagingError
from systemvm.management.state import replicas, store_refs, templates, zones
from systemvm.management.state.copy_sources import choose_source
from systemvm.management.state.templates import StoreRef, Template
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_PRESIGN, PresignedLink, PresignRequest
from systemvm.wire.storage import DownloadState, PublishedFile
from unit.management.image_stores.bucket_templates import in_bucket


def copies_on_nfs(cloud: SmallCloud, template: Template) -> list[StoreRef]:
    found = cloud.database.run_now(replicas.copies_in_zone, template.id, cloud.zone.id)
    return [ref for ref in found if ref.store_id == cloud.store.id]


@pytest.fixture
def staging(cloud: SmallCloud) -> Staging:
    return Staging(cloud.clock, cloud.database, cloud.settings, lambda: None)


async def after_a_poll(cloud: SmallCloud) -> None:
    await settled(cloud.database)
    cloud.clock.advance(POLL_INTERVAL_S)
    await settled(cloud.database)


@pytest_twisted.ensureDeferred
async def test_a_copy_is_ordered_once_and_waited_for(cloud: SmallCloud, staging: Staging) -> None:
    template = in_bucket(cloud)
    waiting = Deferred.fromCoroutine(staging.ensure(template.id, cloud.zone.id, for_host=True))
    await after_a_poll(cloud)
    [copy] = copies_on_nfs(cloud, template)
    assert not waiting.called
    cloud.database.run_now(templates.update_store_ref, copy.id, state=DownloadState.DOWNLOADED)
    await after_a_poll(cloud)
    assert waiting.called
    await waiting
    await staging.ensure(template.id, cloud.zone.id, for_host=True)
    assert len(copies_on_nfs(cloud, template)) == 1


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_ends_the_wait_with_its_reason(cloud: SmallCloud, staging: Staging) -> None:
    template = in_bucket(cloud)
    for _ in range(2):  # a failed one is begun anew
        waiting = Deferred.fromCoroutine(staging.ensure(template.id, cloud.zone.id, for_host=True))
        await settled(cloud.database)
        [copy] = copies_on_nfs(cloud, template)
        assert copy.state is DownloadState.NOT_DOWNLOADED
        cloud.database.run_now(store_refs.fail, copy.id, "store_full", "it is full", "free space")
        cloud.clock.advance(POLL_INTERVAL_S)
        with pytest.raises(StagingError, match="it is full"):
            await waiting


@pytest_twisted.ensureDeferred
async def test_without_a_store_that_a_host_can_read_there_is_no_copy(
    cloud: SmallCloud, staging: Staging
) -> None:
    template = in_bucket(cloud)
    cloud.database.run_now(zones.update_store, cloud.store.id, host_path=None)
    with pytest.raises(StagingError, match="no NFS store that this host can read"):
        await staging.ensure(template.id, cloud.zone.id, for_host=True)


@pytest_twisted.ensureDeferred
async def test_a_link_to_a_bucket_is_signed_by_an_ssvm(cloud: SmallCloud) -> None:
    template = in_bucket(cloud)
    cloud.ssvm_peer.answers[EXTRACT_PRESIGN] = lambda order: PresignedLink("https://s3.example.test/x?signed")
    job = await cloud.job("extractTemplate", id=template.uuid, mode="HTTP_DOWNLOAD")
    assert job.result["template"]["url"] == "https%3A%2F%2Fs3.example.test%2Fx%3Fsigned"
    [order] = cloud.ssvm_peer.params_of(EXTRACT_PRESIGN)
    assert order == PresignRequest(order.store, PublishedFile(2, template.id, "a.qcow2"), 14400)
    assert order.store.s3 is not None
    assert not order.store.s3.has_keys
    assert cloud.ssvm_peer.params_of(EXTRACT_LINKS) == []


@pytest_twisted.ensureDeferred
async def test_users_who_cannot_reach_a_bucket_get_a_copy_on_nfs(cloud: SmallCloud) -> None:
    template = in_bucket(cloud, publiclinks="false")
    creating: Any = Deferred.fromCoroutine(cloud.extraction.create(template.id, cloud.zone.id, "r-1"))
    await settled(cloud.database)
    assert len(copies_on_nfs(cloud, template)) == 1
    assert cloud.ssvm_peer.params_of(EXTRACT_PRESIGN) == []
    creating.addErrback(lambda failure: None)
    creating.cancel()


def test_a_bucket_of_another_zone_is_not_a_source(cloud: SmallCloud) -> None:
    template = in_bucket(cloud)
    other = cloud.database.run_now(zones.put_zone, "other", arch="x86_64")
    store = cloud.database.run_now(
        zones.add_store, name="elsewhere", zone_id=other.id, url="nfs://10.22.0.2/export"
    )
    elsewhere = cloud.database.run_now(templates.add_store_ref, template.id, store.id, None)
    assert cloud.database.run_now(choose_source, elsewhere) is None
    within = cloud.database.run_now(templates.add_store_ref, template.id, cloud.store.id, None)
    found = cloud.database.run_now(choose_source, within)
    assert found is not None
    assert found.store.is_bucket


@pytest.mark.parametrize(("used_of_bucket", "goes_to_bucket"), [(40, True), (60, False)])
@pytest_twisted.ensureDeferred
async def test_downloads_go_to_a_bucket_without_a_limit_while_it_holds_less(
    cloud: SmallCloud, used_of_bucket: int, goes_to_bucket: bool
) -> None:
    in_bucket(cloud)
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 50)
    [bucket] = [each for each in cloud.database.run_now(zones.list_stores) if each.is_bucket]
    cloud.database.run_now(zones.set_store_usage, bucket.id, 0, used_of_bucket)
    registered = await cloud.call(
        "registerTemplate", name="t", url="https://x.test/t.qcow2", format="QCOW2", hypervisor="KVM"
    )
    template = cloud.database.run_now(templates.by_uuid, registered["template"][0]["id"])
    ref = cloud.database.run_now(templates.store_ref_of, template.id)
    assert ref is not None
    assert (ref.store_id == bucket.id) is goes_to_bucket
