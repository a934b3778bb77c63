# SPDX-License-Identifier: Apache-2.0
"""Data volumes with the content of a file: by a URL, or by an upload; the first VM gets their disk."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.resource_limits import limits
from systemvm.management.state import templates, volumes
from systemvm.management.state.accounts import Account
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.errors import VolumeStateError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadError, DownloadRequest, DownloadState, DownloadStatus
from template_uploads import end, lost, orders, receive_uploads, refusal
from user_vms import deploy_running

URL = "https://images.example.test/data.qcow2"
GIB = 1 << 30


def downloaded(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(
        request.job_id,
        DownloadState.DOWNLOADED,
        install_path=f"template/tmpl/{request.account_id}/{request.template_id}/data.qcow2",
        physical_size_bytes=500,
        virtual_size_bytes=3 * GIB,
    )


async def upload(cloud: SmallCloud, **more: Any) -> Volume:
    wanted = {"name": "data", "format": "QCOW2", "zoneid": cloud.zone.uuid, "url": URL} | more
    job = await cloud.job("uploadVolume", **wanted)
    assert job.result_code == 0, job.result
    assert job.result["volume"]["state"] == "NotUploaded"
    return cloud.database.run_now(volumes.by_uuid, job.result["volume"]["id"])


async def receive(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    wanted = {"name": "data", "format": "QCOW2", "zoneid": cloud.zone.uuid} | more
    answer = await cloud.call("getUploadParamsForVolume", **wanted)
    found: dict[str, Any] = answer["getuploadparams"]
    return found


def put_file(cloud: SmallCloud, path: str) -> None:
    """Put a file on the image store as this host reads it."""
    source = cloud.primary.directory / "secondary" / path
    source.parent.mkdir(parents=True)
    source.write_bytes(b"data")


async def state_of(cloud: SmallCloud, volume: Volume) -> dict[str, Any]:
    await settled(cloud.database)
    [listed] = (await cloud.call("listVolumes", id=volume.uuid))["volume"]
    found: dict[str, Any] = listed
    return found


@pytest_twisted.ensureDeferred
async def test_a_volume_by_url_is_attached_and_its_file_is_deleted(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = downloaded
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    vm = await deploy_running(cloud)
    before = await cloud.call("listTemplates", templatefilter="all")
    volume = await upload(cloud)
    await cloud.dispatch.reconcile()
    listed = await state_of(cloud, volume)
    assert (listed["state"], listed["size"], listed["type"]) == ("Uploaded", 3 * GIB, "DATADISK")
    assert await cloud.call("listTemplates", templatefilter="all") == before
    with pytest.raises(VolumeStateError):
        await cloud.job("createSnapshot", volumeid=volume.uuid)
    image = cloud.database.run_now(templates.by_id, volume.template_id or 0)
    put_file(cloud, f"template/tmpl/{image.account_id}/{image.id}/data.qcow2")
    cloud.primary.sizes[volume.uuid] = 3 * GIB
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == 0, job.result
    listed = await state_of(cloud, volume)
    assert (listed["state"], listed["virtualmachineid"]) == ("Ready", vm.uuid)
    [deleted] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)
    assert deleted.template_id == image.id
    await cloud.job("detachVolume", id=volume.uuid)
    again = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert again.result_code == 0, "it is a volume like any other"


@pytest_twisted.ensureDeferred
async def test_a_volume_that_exceeds_the_limit_by_its_file_gets_no_disk(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = downloaded
    vm = await deploy_running(cloud)
    volume = await upload(cloud)
    await cloud.dispatch.reconcile()
    # administrators have no limit
    most = dict.fromkeys(limits.CHECKED, 2 * GIB)
    monkeypatch.setattr(Account, "is_admin", False)
    monkeypatch.setattr(limits, "of_accounts", lambda connection, chosen: {each.id: most for each in chosen})
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert "Type = 'primary_storage'" in job.result["errortext"]
    assert (await state_of(cloud, volume))["state"] == "Uploaded"


@pytest_twisted.ensureDeferred
async def test_a_failed_upload_says_so_and_is_deleted(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(
        request.job_id,
        DownloadState.DOWNLOAD_ERROR,
        error=DownloadError("not_found", "there is no such file"),
    )
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    vm = await deploy_running(cloud)
    volume = await upload(cloud)
    early = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert early.result_code and early.result["errortext"].endswith("is NotUploaded")
    await cloud.dispatch.reconcile()
    assert (await state_of(cloud, volume))["state"] == "UploadError"
    events = (await cloud.call("listEvents", type="VOLUME.UPLOAD"))["event"]
    assert events[0]["description"].endswith("failed to upload: there is no such file")
    late = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert late.result_code and late.result["hint"] == "delete it, and upload it again"
    await cloud.call("deleteVolume", id=volume.uuid)
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)) == 1
    assert await cloud.call("listVolumes", id=volume.uuid) == {}


@pytest_twisted.ensureDeferred
async def test_a_file_that_its_user_sends_becomes_a_volume(cloud: SmallCloud) -> None:
    receive_uploads(cloud)
    vm = await deploy_running(cloud)
    params = await receive(cloud)
    volume = cloud.database.run_now(volumes.by_uuid, params["id"])
    assert (await state_of(cloud, volume))["state"] == "NotUploaded"
    [order] = orders(cloud)
    assert (order.post_url, order.template_id) == (params["postURL"], volume.template_id)
    await end(cloud, DownloadState.DOWNLOADED, virtual_size_bytes=2 * GIB, install_path="t/data.qcow2")
    listed = await state_of(cloud, volume)
    assert (listed["state"], listed["size"], "templateid" in listed) == ("Uploaded", 2 * GIB, False)
    assert await cloud.call("listTemplates", templatefilter="self", name="data") == {}
    with refusal() as refused:
        await cloud.call("renewUploadParamsForVolume", id=volume.uuid)
    assert "waits for no file" in refused[0].message
    put_file(cloud, "t/data.qcow2")
    cloud.primary.sizes[volume.uuid] = 2 * GIB
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == 0, job.result
    assert (await state_of(cloud, volume))["state"] == "Ready"


@pytest_twisted.ensureDeferred
async def test_an_upload_that_has_failed_begins_anew(cloud: SmallCloud) -> None:
    receive_uploads(cloud)
    params = await receive(cloud)
    volume = cloud.database.run_now(volumes.by_uuid, params["id"])
    await end(cloud, DownloadState.DOWNLOAD_ERROR, **lost())
    assert (await state_of(cloud, volume))["state"] == "UploadError"
    answer = await cloud.call("renewUploadParamsForVolume", id=volume.uuid)
    again = answer["getuploadparams"]
    assert again["id"] == volume.uuid and again["postURL"] != params["postURL"]
    assert (await state_of(cloud, volume))["state"] == "NotUploaded"
    await end(cloud, DownloadState.DOWNLOADED, virtual_size_bytes=GIB)
    assert (await state_of(cloud, volume))["state"] == "Uploaded"


@pytest_twisted.ensureDeferred
async def test_a_refused_upload_leaves_no_volume(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusal() as refused:  # this SSVM does not know the order
        await receive(cloud)
    assert refused[0].code == 534
    receive_uploads(cloud)
    monkeypatch.setattr("systemvm.management.templates.uploads.MAX_UPLOADS_OF_ACCOUNT", 0)
    with refusal() as refused:
        await receive(cloud)
    assert "too many unfinished uploads" in refused[0].message
    for name, value, named in (
        ("format", "ISO", "ISO is not a format of volumes"),
        ("format", "PNG", "format"),
        ("checksum", "12", "checksum"),
        ("name", "", "name"),
    ):
        with refusal() as refused:
            await receive(cloud, **{name: value})
        assert refused[0].code == 431 and named in refused[0].message
    assert await cloud.call("listVolumes") == {}


@pytest_twisted.ensureDeferred
async def test_only_its_owner_gets_parameters_and_no_other_vm_gets_the_disk(cloud: SmallCloud) -> None:
    receive_uploads(cloud)
    vm = await deploy_running(cloud, cloud.user)
    params = await receive(cloud)
    volume = cloud.database.run_now(volumes.by_uuid, params["id"])
    with refusal() as refused:
        await cloud.call("renewUploadParamsForVolume", cloud.user, id=volume.uuid)
    assert refused[0].code == 401
    await end(cloud, DownloadState.DOWNLOADED, virtual_size_bytes=GIB, install_path="t/data.qcow2")
    await settled(cloud.database)
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code and "different owners" in job.result["errortext"]
    assert (await state_of(cloud, volume))["state"] == "Uploaded", "its disk is not made in vain"


@pytest_twisted.ensureDeferred
async def test_what_a_killed_daemon_left_is_noted_by_the_next_one(cloud: SmallCloud) -> None:
    receive_uploads(cloud)
    params = await receive(cloud)
    volume = cloud.database.run_now(volumes.by_uuid, params["id"])
    cloud.database.run_now(volumes.remove, volume.id)  # deleted, but its image was not yet
    cloud.volume_uploads.changed()
    await settled(cloud.database)
    [deleted] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)
    assert deleted.template_id == volume.template_id


def test_each_end_of_a_download_reads_only_volumes_that_are_uploaded(cloud: SmallCloud) -> None:
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append("; ".join(str(row[3]) for row in found))

    with cloud.database.engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", explain)
        volumes.being_uploaded(connection)
        volumes.images_without_use(connection)
    assert len(plans) == 2
    for plan in plans:
        assert "SCAN" not in plan and "USING INDEX" in plan, plan
