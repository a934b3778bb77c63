# SPDX-License-Identifier: Apache-2.0
"""Content moves from one store to others: complete, balanced, with progress, cancelled, continued."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.commands.store_migrations import _mark_retiring
from systemvm.management.api.errors import ApiError
from systemvm.management.image_stores.migration import POLL_INTERVAL_S
from systemvm.management.state import jobs, replicas, templates, zones
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import JobStatus
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import ImageStore
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import CopyRequest, DownloadError, DownloadState, DownloadStatus
from unfinished_job import begins, start_unfinished

READY = DownloadState.DOWNLOADED
GIB = 1 << 30


def copied(request: CopyRequest) -> DownloadStatus:
    path = f"template/tmpl/{request.account_id}/{request.template_id}/copy.qcow2"
    return DownloadStatus(request.job_id, READY, GIB, GIB, None, path, GIB, 4 * GIB)


@pytest.fixture(autouse=True)
def _ssvm(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = copied
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda order: Acknowledgement()
    cloud.ssvm_peer.answers[storage.TEMPLATE_ABORT] = lambda order: Acknowledgement()


@pytest.fixture
def target(cloud: SmallCloud) -> ImageStore:
    return cloud.database.run_now(
        zones.add_store, name="second", zone_id=cloud.zone.id, url="nfs://10.12.0.3/second", nfs_version="4.2"
    )


def add(cloud: SmallCloud, count: int, size: int = GIB) -> list[Template]:
    found = []
    for _ in range(count):
        template, ref = cloud.add_template()
        cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=size)
        found.append(template)
    return found


async def started(cloud: SmallCloud, command: str, **parameters: Any) -> str:
    answer = await cloud.call(command, **parameters)
    await settled(cloud.database)
    return str(answer["jobid"])


async def migrate(cloud: SmallCloud, target: ImageStore, kind: str = "complete") -> str:
    pools = {"srcpool": cloud.store.uuid, "destpools": target.uuid}
    return await started(cloud, "migrateSecondaryStorageData", migrationtype=kind, **pools)


def job_of(cloud: SmallCloud, uuid: str) -> Job:
    return cloud.database.run_now(jobs.by_uuid, uuid)


async def finished(cloud: SmallCloud, uuid: str, rounds: int = 30) -> Job:
    """Let passes and polls follow each other until the job has ended."""
    for _ in range(rounds):
        await settled(cloud.database)
        if job_of(cloud, uuid).status is not JobStatus.PENDING:
            break
        await cloud.dispatch.reconcile()
        cloud.clock.advance(POLL_INTERVAL_S)
    return job_of(cloud, uuid)


def stores_of(cloud: SmallCloud, template: Template) -> list[int]:
    found = cloud.database.run_now(replicas.copies_in_zone, template.id, cloud.zone.id)
    return [ref.store_id for ref in found]


@pytest_twisted.ensureDeferred
async def test_everything_moves_and_the_source_is_emptied(cloud: SmallCloud, target: ImageStore) -> None:
    rows = add(cloud, 3)
    job = await finished(cloud, await migrate(cloud, target))
    assert job.status is JobStatus.SUCCEEDED
    assert job.result is not None
    answer = job.result["imagestore"]
    assert (answer["success"], answer["migrationtype"]) == (True, "complete")
    assert "moved 3 of 3 templates, 3.0 of 3.0 GiB" in answer["message"]
    assert [stores_of(cloud, row) for row in rows] == [[target.id]] * 3
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)) == 3
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD) == [], "no URL is asked"


@pytest_twisted.ensureDeferred
async def test_progress_has_bytes_and_the_old_copy_stays_until_the_new_one_is_ready(
    cloud: SmallCloud, target: ImageStore
) -> None:
    [template] = add(cloud, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, GIB // 4, GIB
    )
    uuid = await migrate(cloud, target)
    await cloud.dispatch.reconcile()
    cloud.clock.advance(POLL_INTERVAL_S)
    await settled(cloud.database)
    job = job_of(cloud, uuid)
    assert (job.status, job.progress) == (JobStatus.PENDING, 25)
    assert job.progress_text == "moved 0 of 1 templates, 0.2 of 1.0 GiB, from secondary"
    assert sorted(stores_of(cloud, template)) == [cloud.store.id, target.id]
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["complete", "balance"])
async def test_read_only_targets_are_none(cloud: SmallCloud, target: ImageStore, kind: str) -> None:
    add(cloud, 1)
    cloud.database.run_now(zones.update_store, target.id, read_only=True)
    job = await finished(cloud, await migrate(cloud, target, kind))
    assert job.status is JobStatus.FAILED
    assert job.result is not None
    assert job.result["errortext"].startswith("No destination valid store(s) available to migrate.")


@pytest_twisted.ensureDeferred
async def test_targets_without_room_are_refused_before_anything_moves(
    cloud: SmallCloud, target: ImageStore
) -> None:
    [template] = add(cloud, 1)
    cloud.database.run_now(zones.set_store_usage, target.id, GIB, 0)
    job = await finished(cloud, await migrate(cloud, target))
    assert job.status is JobStatus.FAILED
    assert job.result is not None
    assert "have not enough room" in job.result["errortext"]
    assert stores_of(cloud, template) == [cloud.store.id]


@pytest_twisted.ensureDeferred
async def test_balance_moves_until_the_difference_is_below_the_threshold(
    cloud: SmallCloud, target: ImageStore
) -> None:
    rows = add(cloud, 8)
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 10 * GIB, 8 * GIB)
    cloud.database.run_now(zones.set_store_usage, target.id, 10 * GIB, 0)
    job = await finished(cloud, await migrate(cloud, target, "balance"))
    assert job.status is JobStatus.SUCCEEDED
    moved = [row for row in rows if stores_of(cloud, row) == [target.id]]
    assert len(moved) == 3, "80 % and 0 % become 50 % and 30 %"
    again = await finished(cloud, await migrate(cloud, target, "balance"))
    assert again.result is not None


@pytest_twisted.ensureDeferred
async def test_a_bucket_without_a_capacity_is_balanced_as_the_largest_store(
    cloud: SmallCloud, target: ImageStore
) -> None:
    rows = add(cloud, 8)
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 10 * GIB, 8 * GIB)
    bucket = {"provider": zones.S3, "url": "https://s3.test/images"}
    cloud.database.run_now(zones.store_rows.update, target.id, **bucket)
    cloud.database.run_now(zones.set_store_usage, target.id, 0, 2 * GIB)
    job = await finished(cloud, await migrate(cloud, target, "balance"))
    assert job.status is JobStatus.SUCCEEDED
    moved = [row for row in rows if stores_of(cloud, row) == [target.id]]
    assert len(moved) == 2, "80 % and 20 % become 60 % and 40 %"


@pytest_twisted.ensureDeferred
async def test_a_template_that_cannot_be_moved_is_named_and_stays(
    cloud: SmallCloud, target: ImageStore
) -> None:
    template, _ = cloud.add_template(url=None, name="damaged")
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_ERROR, error=DownloadError("checksum_mismatch", "differs")
    )
    job = await finished(cloud, await migrate(cloud, target))
    assert job.status is JobStatus.FAILED
    assert job.result is not None
    assert job.result["errortext"] == "Could not migrate damaged: differs"
    assert cloud.store.id in stores_of(cloud, template)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = copied
    again = await finished(cloud, await migrate(cloud, target))
    assert again.status is JobStatus.SUCCEEDED
    assert stores_of(cloud, template) == [target.id]


@pytest_twisted.ensureDeferred
async def test_content_of_a_read_only_source_is_copied_and_its_files_stay(
    cloud: SmallCloud, target: ImageStore
) -> None:
    [template] = add(cloud, 1)
    cloud.database.run_now(zones.update_store, cloud.store.id, read_only=True)
    job = await finished(cloud, await migrate(cloud, target))
    assert job.status is JobStatus.SUCCEEDED
    assert stores_of(cloud, template) == [target.id]
    await cloud.dispatch.reconcile()
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE) == []


@pytest_twisted.ensureDeferred
async def test_a_retired_store_gets_nothing_new_and_can_be_deleted(
    cloud: SmallCloud, target: ImageStore
) -> None:
    cloud.database.run_now(zones.release_stores, cloud.zone.id, [])
    add(cloud, 2)
    failed, _ = cloud.add_template(state=DownloadState.DOWNLOAD_ERROR)
    job = await finished(cloud, await started(cloud, "retireImageStore", id=cloud.store.uuid))
    assert job.status is JobStatus.SUCCEEDED
    assert stores_of(cloud, failed) == [target.id], "it is retried there"
    [row] = (await cloud.call("listImageStores", id=cloud.store.uuid))["imagestore"]
    assert row["retiring"] is True
    assert await cloud.call("deleteImageStore", id=cloud.store.uuid) == {"success": True}


@pytest_twisted.ensureDeferred
async def test_a_canceled_retirement_leaves_everything_where_it_is(
    cloud: SmallCloud, target: ImageStore
) -> None:
    [template] = add(cloud, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, 1, GIB
    )
    uuid = await started(cloud, "retireImageStore", id=cloud.store.uuid)
    await cloud.dispatch.reconcile()
    await cloud.call("cancelImageStoreMigration", id=cloud.store.uuid)
    job = await finished(cloud, uuid)
    assert job.status is JobStatus.FAILED
    assert job.result is not None
    assert job.result["errortext"].startswith("Migration is canceled")
    await cloud.dispatch.reconcile()
    assert stores_of(cloud, template) == [cloud.store.id]
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_ABORT)) == 1
    [row] = (await cloud.call("listImageStores", id=cloud.store.uuid))["imagestore"]
    assert row["retiring"] is False


@pytest_twisted.ensureDeferred
async def test_a_migration_that_was_canceled_before_it_is_resumed_stays_canceled(
    cloud: SmallCloud, target: ImageStore
) -> None:
    [template] = add(cloud, 1)
    job = start_unfinished(
        cloud, "migrateSecondaryStorageData", source=cloud.store.id, targets=[target.id], kind="COMPLETE"
    )
    with pytest.raises(ApiError):
        await cloud.call("cancelImageStoreMigration", id=target.uuid)
    await cloud.call("cancelImageStoreMigration", id=cloud.store.uuid)
    await cloud.jobs.resume_pending()
    ended = await finished(cloud, job.uuid)
    assert ended.result is not None
    assert ended.result["errortext"].startswith("Migration is canceled: moved 0 of 1 templates")
    await cloud.dispatch.reconcile()
    assert stores_of(cloud, template) == [cloud.store.id]
    again = await finished(cloud, await migrate(cloud, target))
    assert again.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("has_begun", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_retirement_that_was_canceled_before_it_is_resumed_stays_canceled(
    cloud: SmallCloud, target: ImageStore, has_begun: bool
) -> None:
    [template] = add(cloud, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, 1, GIB
    )
    job = start_unfinished(cloud, "retireImageStore", source=cloud.store.id, targets=[target.id])
    if has_begun:
        cloud.database.run_now(_mark_retiring, cloud.store.id, job.id, begins(job))
    await cloud.call("cancelImageStoreMigration", id=cloud.store.uuid)
    await cloud.jobs.resume_pending()
    ended = await finished(cloud, job.uuid)
    assert ended.status is JobStatus.FAILED
    assert ended.result is not None
    assert ended.result["errortext"].startswith("Migration is canceled")
    await cloud.dispatch.reconcile()
    assert stores_of(cloud, template) == [cloud.store.id]
    [row] = (await cloud.call("listImageStores", id=cloud.store.uuid))["imagestore"]
    assert row["retiring"] is False


@pytest_twisted.ensureDeferred
async def test_a_second_migration_from_the_same_store_is_refused(
    cloud: SmallCloud, target: ImageStore
) -> None:
    add(cloud, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, 1, GIB
    )
    await migrate(cloud, target)
    second = await finished(cloud, await migrate(cloud, target))
    assert second.status is JobStatus.FAILED
    assert second.result is not None
    assert "is in progress" in second.result["errortext"]
