# SPDX-License-Identifier: Apache-2.0
"""Further copies of an uploaded template, which no URL can replace."""

from __future__ import annotations

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.state import templates, zones
from systemvm.management.templates import downloads
from systemvm.wire import storage
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD
from template_downloads import DONE, FAILED, now_of, refs_of, status_of
from template_uploads import begin, end, lost, receive_uploads, renew, state_of


@pytest.fixture(autouse=True)
def receiver(cloud: SmallCloud) -> None:
    receive_uploads(cloud)


def second_store(cloud: SmallCloud) -> int:
    return cloud.database.run_now(
        zones.put_store, "second", zone_id=cloud.zone.id, url="nfs://10.12.0.3/x", host_path=None,
        nfs_version="4.2",
    ).id  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_further_copies_come_from_a_store(cloud: SmallCloud) -> None:
    await begin(cloud)
    await end(cloud, DONE, install_path="template/tmpl/1/1/x.qcow2")
    [ref] = refs_of(cloud)
    cloud.database.run_now(templates.add_store_ref, ref.template_id, second_store(cloud), None)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda r: DownloadStatus(r.job_id, DONE, 1, 1)
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)) == 1
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD) == []
    states = [each["downloadState"] for each in (await status_of(cloud))["downloaddetails"]]
    assert sorted(states) == ["DOWNLOADED", "UPLOADED"]


@pytest_twisted.ensureDeferred
async def test_copy_without_a_source_fails_and_asks_no_url(cloud: SmallCloud) -> None:
    await begin(cloud)
    await end(cloud, FAILED, **lost())
    [ref] = refs_of(cloud)
    copy = cloud.database.run_now(templates.add_store_ref, ref.template_id, second_store(cloud), None)
    await cloud.dispatch.reconcile()
    assert now_of(cloud, copy).error_code == "source_missing"
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD) == []


@pytest_twisted.ensureDeferred
async def test_lost_upload_is_to_be_uploaded_again(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    await end(cloud, DONE, install_path="template/tmpl/1/1/x.qcow2")
    [ref] = refs_of(cloud)
    cloud.database.run_now(downloads.requeue, ref.id, ref.job_id)
    assert (await state_of(cloud))[0] == "UPLOAD_ERROR"
    assert "renewUploadParamsForTemplate" in (await status_of(cloud))["hint"]
    await renew(cloud, params)
    await end(cloud, DONE)
    assert (await state_of(cloud))[2]


@pytest_twisted.ensureDeferred
async def test_an_upload_goes_to_a_bucket_that_is_emptier(cloud: SmallCloud) -> None:
    bucket = cloud.database.run_now(
        zones.add_store, name="bucket", zone_id=cloud.zone.id, url="https://s3.test/images", provider=zones.S3
    )
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 50)
    params = await begin(cloud)
    template = cloud.database.run_now(templates.by_uuid, params["id"])
    ref = cloud.database.run_now(templates.store_ref_of, template.id)
    assert ref is not None
    assert ref.store_id == bucket.id
    [order] = cloud.ssvm_peer.params_of(TEMPLATE_UPLOAD)
    assert order.store.s3 == S3Bucket("s3.test", 443, "images")


@pytest_twisted.ensureDeferred
async def test_an_upload_to_a_zone_with_buckets_only_is_taken(cloud: SmallCloud) -> None:
    cloud.database.run_now(
        zones.add_store, name="bucket", zone_id=cloud.zone.id, url="https://s3.test/images", provider=zones.S3
    )
    cloud.database.run_now(zones.remove_store, cloud.store.id)
    await begin(cloud)
    [order] = cloud.ssvm_peer.params_of(TEMPLATE_UPLOAD)
    assert order.store.s3 is not None
    assert not order.store.s3.has_keys, "they travel in storage.setup only"
