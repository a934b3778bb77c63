# SPDX-License-Identifier: Apache-2.0
"""Templates made from snapshots and volumes, and links to both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_twisted

from present import present
from settling import settled
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.snapshots.errors import SnapshotStateError
from systemvm.management.snapshots.images import POLL_INTERVAL_S, UNUSED_AFTER
from systemvm.management.state import extract_links, jobs, snapshots, templates, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.schema import extract_links as link_table
from systemvm.management.state.schema import template_store_refs
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import JobStatus, SnapshotState
from systemvm.management.state.volumes import Volume
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import CopyRequest, DownloadError, DownloadState, DownloadStatus
from user_vms import deploy_running

GIB = 1 << 30
READY = DownloadState.DOWNLOADED


def ready(request: CopyRequest) -> DownloadStatus:
    path = f"template/tmpl/{request.account_id}/{request.template_id}/image.qcow2"
    return DownloadStatus(
        request.job_id,
        READY,
        500,
        500,
        install_path=path,
        physical_size_bytes=500,
        virtual_size_bytes=request.virtual_size_bytes,
    )


def prepare(cloud: SmallCloud) -> SnapshotStore:
    """Have the SSVM make images and take links."""
    for method in (EXTRACT_SETUP, EXTRACT_LINKS, storage.TEMPLATE_DELETE):
        cloud.ssvm_peer.answers[method] = lambda _: Acknowledgement()
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = ready
    return SnapshotStore.of(cloud)


async def root_disk(cloud: SmallCloud) -> tuple[int, Volume]:
    """Return a VM that runs, and its root disk of 2 GiB."""
    vm = await deploy_running(cloud)
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[volume.uuid] = 2 * GIB
    return vm.id, volume


async def done(cloud: SmallCloud, command: str, **parameters: Any) -> Any:
    """Run a job to its end, with dispatches in between as in the daemon."""
    started = await cloud.call(command, **parameters)
    while True:
        await settled(cloud.database)
        job = cloud.database.run_now(jobs.by_uuid, started["jobid"])
        if job.status is not JobStatus.PENDING:
            return job
        await cloud.dispatch.reconcile()
        cloud.clock.advance(POLL_INTERVAL_S)


async def take(cloud: SmallCloud, volume: Volume) -> Snapshot:
    job = await cloud.job("createSnapshot", volumeid=volume.uuid)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(snapshots.by_uuid, job.result["snapshot"]["id"])


async def templates_of(cloud: SmallCloud) -> list[str]:
    listed = await cloud.call("listTemplates", templatefilter="all")
    return [each["name"] for each in listed.get("template", [])]


@pytest_twisted.ensureDeferred
async def test_a_template_is_made_from_a_chain_of_snapshots(cloud: SmallCloud) -> None:
    prepare(cloud)
    _, volume = await root_disk(cloud)
    first, second = await take(cloud, volume), await take(cloud, volume)
    job = await done(cloud, "createTemplate", name="golden", snapshotid=second.uuid, ispublic="true")
    assert job.result_code == 0, job.result
    answer = job.result["template"]
    assert (answer["name"], answer["isready"], answer["ispublic"]) == ("golden", True, True)
    assert (answer["format"], answer["zoneid"]) == ("QCOW2", cloud.zone.uuid)
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)
    assert order.source_chain == StoredChain(second.account_id, volume.id, [first.uuid, second.uuid])
    assert (order.source, order.store, order.source_file) == (cloud.store.wire, cloud.store.wire, None)
    assert order.virtual_size_bytes == 2 * GIB
    deployed = cloud.database.run_now(templates.by_uuid, answer["id"])
    assert cloud.database.run_now(templates.store_ref_of, deployed.id).physical_size_bytes == 500  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_a_template_of_a_stopped_vms_volume_leaves_no_snapshot(cloud: SmallCloud) -> None:
    store = prepare(cloud)
    vm_id, volume = await root_disk(cloud)
    with pytest.raises(ApiError) as refused:
        await cloud.call("createTemplate", name="golden", volumeid=volume.uuid)
    assert refused.value.code == ErrorCode.PARAMETER and refused.value.hint.startswith("stop the VM")
    await cloud.machines.stop(vm_id, forced=True)
    job = await done(cloud, "createTemplate", name="golden", volumeid=volume.uuid)
    assert job.result_code == 0, job.result
    assert job.result["template"]["isready"] is True
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)
    assert len(order.source_chain.snapshot_ids) == 1
    assert store.files() == {}
    assert await cloud.call("listSnapshots") == {}


@pytest_twisted.ensureDeferred
async def test_a_snapshot_stays_while_an_image_is_made_of_it(cloud: SmallCloud) -> None:
    prepare(cloud)
    _, volume = await root_disk(cloud)
    snapshot = await take(cloud, volume)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, 1, 500
    )
    started = await cloud.call("createTemplate", name="golden", snapshotid=snapshot.uuid)
    await cloud.dispatch.reconcile()
    with pytest.raises(SnapshotStateError):
        await cloud.snapshots.delete(snapshot.id)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_ERROR, error=DownloadError("source_missing", "it is gone")
    )
    while cloud.database.run_now(jobs.by_uuid, started["jobid"]).status is JobStatus.PENDING:
        await cloud.dispatch.reconcile()
        cloud.clock.advance(60)
        await settled(cloud.database)
    job = await cloud.jobs.wait(started["jobid"])
    assert job.result is not None and job.result["errortext"] == "it is gone"
    await cloud.snapshots.delete(snapshot.id)
    with pytest.raises(NotFoundError):
        await cloud.call("createTemplate", name="late", snapshotid=snapshot.uuid)


@pytest_twisted.ensureDeferred
async def test_an_older_ssvm_ends_it_with_what_to_do(cloud: SmallCloud) -> None:
    prepare(cloud)
    _, volume = await root_disk(cloud)
    snapshot = await take(cloud, volume)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda _: RpcError(METHOD_NOT_FOUND, "no method")
    job = await done(cloud, "createTemplate", name="golden", snapshotid=snapshot.uuid)
    assert job.result_code and job.result["hint"].startswith("destroy s-")


@pytest_twisted.ensureDeferred
async def test_a_link_to_a_snapshot_is_one_image_until_it_expires(cloud: SmallCloud) -> None:
    prepare(cloud)
    _, volume = await root_disk(cloud)
    before = await templates_of(cloud)
    snapshot = await take(cloud, volume)
    answers = []
    for _ in range(2):
        job = await done(cloud, "extractSnapshot", id=snapshot.uuid)
        assert job.result_code == 0, job.result
        answers.append(job.result["snapshot"])
    assert answers[0]["url"] == answers[1]["url"], "a valid link is used again"
    assert (answers[0]["id"], answers[0]["state"]) == (snapshot.uuid, "DOWNLOAD_URL_CREATED")
    assert unquote(answers[0]["url"]).startswith("https://203.0.113.101/userdata/")
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)
    assert order.source_chain.snapshot_ids == [snapshot.uuid]
    [link] = {
        link.secret: link for each in cloud.ssvm_peer.params_of(EXTRACT_LINKS) for link in each.links
    }.values()
    assert link.template_id == order.template_id
    assert (await cloud.call("listEvents", type="SNAPSHOT.EXTRACT"))["count"] == 2
    assert await templates_of(cloud) == before, "it is no template"
    export = cloud.database.run_now(templates.by_id, order.template_id)
    with pytest.raises(Exception, match="template"):
        await cloud.call("deleteTemplate", id=export.uuid)
    await cloud.snapshot_images.tend()
    assert cloud.database.run_now(templates.by_id, export.id).removed is None
    expire(cloud)
    await cloud.snapshot_images.tend()
    [deleted] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)
    assert deleted.template_id == export.id


def expire(cloud: SmallCloud) -> None:
    """Let the lifetime of all links, and the time for which an export is kept without one, go by."""
    past = now() - 2 * UNUSED_AFTER - timedelta(seconds=1)
    changes = (link_table.update().values(expires=past), template_store_refs.update().values(updated=past))

    def change(connection: Connection) -> None:
        for statement in changes:
            connection.execute(statement)

    cloud.database.run_now(change)
    assert all(row.expires <= now() for row in cloud.database.run_now(extract_links.rows.all))


@pytest_twisted.ensureDeferred
async def test_a_link_to_a_volume_leaves_no_snapshot(cloud: SmallCloud) -> None:
    store = prepare(cloud)
    vm_id, volume = await root_disk(cloud)
    with pytest.raises(ApiError):
        await cloud.call("extractVolume", id=volume.uuid, mode="HTTP_DOWNLOAD")
    await cloud.machines.stop(vm_id, forced=True)
    job = await done(cloud, "extractVolume", id=volume.uuid, mode="HTTP_DOWNLOAD")
    assert job.result_code == 0, job.result
    answer = job.result["volume"]
    assert (answer["id"], answer["name"], answer["storagetype"]) == (volume.uuid, volume.name, "secondary")
    assert store.files() == {}
    taken = cloud.database.run_now(snapshots.rows.all)
    assert [each.state for each in taken] == [SnapshotState.DESTROYING] and taken[0].removed is not None


@pytest_twisted.ensureDeferred
async def test_refusals_name_what_is_wrong(cloud: SmallCloud) -> None:
    prepare(cloud)
    _, volume = await root_disk(cloud)
    snapshot = await take(cloud, volume)
    for parameters in ({}, {"snapshotid": snapshot.uuid, "volumeid": volume.uuid}):
        with pytest.raises(ApiError) as refused:
            await cloud.call("createTemplate", name="golden", **parameters)
        assert "snapshotid or volumeid" in refused.value.message
    for command in ("extractSnapshot", "createTemplate"):
        key = "id" if command.startswith("extract") else "snapshotid"
        more = {} if command.startswith("extract") else {"name": "golden"}
        with pytest.raises(ApiError) as refused:
            await cloud.call(command, cloud.user, **{key: snapshot.uuid}, **more)
        assert refused.value.code == ErrorCode.UNAUTHORIZED
    assert await templates_of(cloud) == ["tiny"]


@pytest_twisted.ensureDeferred
async def test_a_template_decides_whether_disks_of_it_are_extracted(cloud: SmallCloud) -> None:
    prepare(cloud)
    for extractable in (False, True):
        template, _ = cloud.add_template(public=True, extractable=extractable, name=f"tiny-{extractable}")
        vm = await deploy_running(cloud, cloud.user, template)
        await cloud.machines.stop(vm.id, forced=True)
        [root] = (await cloud.call("listVolumes", cloud.user, virtualmachineid=vm.uuid))["volume"]
        assert root["isextractable"] is extractable
        if extractable:
            assert await cloud.call("extractVolume", cloud.user, id=root["id"], mode="HTTP_DOWNLOAD")
        else:
            with pytest.raises(ApiError) as refused:
                await cloud.call("extractVolume", cloud.user, id=root["id"], mode="HTTP_DOWNLOAD")
            assert refused.value.code == ErrorCode.UNAUTHORIZED
    made = await cloud.job("createVolume", cloud.user, name="data", size=1)
    assert made.result["volume"]["isextractable"], "it is of no template"
