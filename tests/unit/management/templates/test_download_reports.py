# SPDX-License-Identifier: Apache-2.0
"""Reports of SSVMs about downloads: progress, failures, final results, and retries."""

from __future__ import annotations

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.state import events, templates
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef
from systemvm.management.templates.service import TemplateStateError
from systemvm.rpc.core.errors import FORBIDDEN, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    DownloadError,
    DownloadStatus,
    ImageFormat,
)
from template_downloads import (
    DONE,
    FAILED,
    PROGRESS,
    WAITING,
    begin,
    now_of,
    report,
    status_of,
)


@pytest_twisted.ensureDeferred
async def test_status_texts_are_cloudstacks_from_first_byte_to_ready(
    cloud: SmallCloud, ref: StoreRef
) -> None:
    await begin(cloud)
    texts = []
    for received in (0, 424, 999, 1000):
        await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, received, 1000))
        texts.append((await status_of(cloud))["status"])
    end = DownloadStatus(
        ref.job_id,
        DONE,
        1000,
        1000,
        install_path="template/tmpl/2/1/x.qcow2",
        physical_size_bytes=1000,
        virtual_size_bytes=5000,
        checksum="{SHA-1}ab",
    )
    assert await report(cloud, storage.TEMPLATE_FINISHED, end) == Acknowledgement()
    row = await status_of(cloud)
    assert [*texts, row["status"]] == [
        "0% Downloaded",
        "42% Downloaded",
        "99% Downloaded",
        "Installing Template",
        "Download Complete",
    ]
    assert (row["isready"], row["size"], row["physicalsize"], row["checksum"]) == (
        True,
        5000,
        1000,
        "ab",
    )
    assert row["downloaddetails"] == [
        {
            "datastore": "secondary",
            "downloadPercent": "100",
            "downloadState": "DOWNLOADED",
            "receivedbytes": 1000,
            "totalbytes": 1000,
            "systemvm": "s-1-VM",
        }
    ]


@pytest_twisted.ensureDeferred
async def test_a_failed_download_is_retried_under_a_new_job(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    lost = DownloadError("truncated", "the connection ended after 5 bytes", "retry the template")
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, FAILED, 5, 10, error=lost))
    template = cloud.database.run_now(templates.by_id, ref.template_id)
    [row] = (await cloud.call("retryTemplate", id=template.uuid))["template"]
    assert (row["id"], row["isready"]) == (template.uuid, False)
    renewed = now_of(cloud, ref)
    assert renewed.job_id != ref.job_id, "the SSVM answers for the old job with its end"
    assert (renewed.error_code, renewed.error_text, renewed.received_bytes) == (None, None, 0)
    await cloud.dispatch.reconcile()
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)[-1].job_id == renewed.job_id
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(renewed.job_id, DONE, 10, 10))
    assert (await status_of(cloud))["isready"] is True
    types = [event.type for event in cloud.database.run_now(events.newest, 10)]
    assert "TEMPLATE.DOWNLOAD.RETRY" in types


@pytest_twisted.ensureDeferred
async def test_only_own_failed_downloads_are_retried(cloud: SmallCloud, ref: StoreRef) -> None:
    template = cloud.database.run_now(templates.by_id, ref.template_id)
    with pytest.raises(TemplateStateError, match="has not failed"):
        await cloud.call("retryTemplate", id=template.uuid)
    assert now_of(cloud, ref).job_id == ref.job_id
    with pytest.raises(ApiError):
        await cloud.call("retryIso", id=template.uuid)
    with pytest.raises(ApiError):
        await cloud.call("retryTemplate", cloud.user, id=template.uuid)


@pytest_twisted.ensureDeferred
async def test_isos_have_their_own_status_texts(cloud: SmallCloud) -> None:
    _, ref = cloud.add_template(state=WAITING, format=ImageFormat.ISO, name="boot")
    await begin(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, 10, 10))
    assert (await status_of(cloud, "listIsos"))["status"] == "Installing ISO"
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, DONE, 10, 10))
    assert (await status_of(cloud, "listIsos"))["status"] == "Successfully Installed"


@pytest_twisted.ensureDeferred
async def test_failure_becomes_the_status_with_a_hint(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    why = DownloadError("checksum_mismatch", "checksum didn't match", "register it again")
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, FAILED, error=why))
    row = await status_of(cloud)
    assert (row["status"], row["hint"], row["isready"]) == (
        "checksum didn't match",
        "register it again",
        False,
    )
    [event] = cloud.database.run_now(events.newest, 1)
    assert (event.type, event.level) == ("TEMPLATE.DOWNLOAD.FAILED", "ERROR")


@pytest_twisted.ensureDeferred
async def test_final_report_can_be_repeated_and_is_not_overwritten(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    end = DownloadStatus(ref.job_id, DONE, 10, 10)
    for _ in range(2):
        assert await report(cloud, storage.TEMPLATE_FINISHED, end) == Acknowledgement()
    late = DownloadStatus(ref.job_id, PROGRESS, 5, 10)
    await report(cloud, storage.TEMPLATE_PROGRESS, late)
    await report(
        cloud,
        storage.TEMPLATE_FINISHED,
        DownloadStatus(ref.job_id, FAILED, error=DownloadError("x", "late failure")),
    )
    assert (await status_of(cloud))["status"] == "Download Complete"
    successes = [event for event in cloud.database.run_now(events.newest, 50) if "SUCCESS" in event.type]
    assert len(successes) == 1


@pytest_twisted.ensureDeferred
async def test_ssvm_reports_only_its_own_jobs(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    other = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    end = DownloadStatus(ref.job_id, DONE, 10, 10)
    for method in (storage.TEMPLATE_FINISHED, storage.TEMPLATE_PROGRESS):
        with pytest.raises(RpcError) as refused:
            await report(cloud, method, end, by=other)
        assert refused.value.code == FORBIDDEN
    assert now_of(cloud, ref).state is PROGRESS


@pytest_twisted.ensureDeferred
async def test_cpvm_cannot_report_downloads(cloud: SmallCloud, ref: StoreRef) -> None:
    with pytest.raises(RpcError) as refused:
        await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, DONE), by=cloud.cpvm)
    assert refused.value.code == FORBIDDEN


@pytest_twisted.ensureDeferred
async def test_only_a_final_report_ends_a_download(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, DONE, 10, 10))
    assert now_of(cloud, ref).state is PROGRESS
    with pytest.raises(RpcError) as refused:
        await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, PROGRESS, 10, 10))
    assert refused.value.reason == "not_ended"


@pytest_twisted.ensureDeferred
async def test_unknown_job_is_acknowledged(cloud: SmallCloud) -> None:
    assert (
        await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus("no-such-job", DONE))
        == Acknowledgement()
    )
