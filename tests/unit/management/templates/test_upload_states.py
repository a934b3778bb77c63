# SPDX-License-Identifier: Apache-2.0
"""The states of an uploaded template, and how its parameters are renewed."""

from __future__ import annotations

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import uploads
from systemvm.wire import storage
from systemvm.wire.storage import DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD
from template_downloads import DONE, FAILED, PROGRESS, refs_of, report, status_of
from template_uploads import (
    add_receiver,
    begin,
    end,
    events_of,
    lost,
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
async def test_states_are_cloudstacks_until_the_template_is_ready(cloud: SmallCloud) -> None:
    await begin(cloud)
    [order] = orders(cloud)
    assert await state_of(cloud) == ("NOT_UPLOADED", "NotUploaded", False)
    status = DownloadStatus(order.job_id, PROGRESS, 450, 1000)
    await report(cloud, storage.TEMPLATE_PROGRESS, status)
    assert await state_of(cloud) == ("UPLOAD_IN_PROGRESS", "45% Downloaded", False)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(order.job_id, PROGRESS, 1000, 1000))
    assert await state_of(cloud) == ("UPLOAD_IN_PROGRESS", "Installing Template", False)
    await end(cloud, DONE, checksum="ab" * 64)
    assert await state_of(cloud) == ("UPLOADED", "Download Complete", True)
    assert "url" not in await status_of(cloud)
    begun, ready = await events_of(cloud, "TEMPLATE.UPLOAD")
    assert begun[0] == "INFO" and "s-1-VM" in begun[1]
    assert ready == ("INFO", "tiny is uploaded and Ready")
    assert len(await events_of(cloud, "TEMPLATE.CREATE")) == 1
    assert await events_of(cloud, "ALERT.UPLOAD.FAILED") == []
    assert cloud.database.run_now(uploads.rows.all) == []


@pytest_twisted.ensureDeferred
async def test_isos_are_uploaded_as_well(cloud: SmallCloud) -> None:
    await begin(cloud, kind="Iso")
    await end(cloud, DONE)
    assert await state_of(cloud, "listIsos") == ("UPLOADED", "Successfully Installed", True)
    assert len(await events_of(cloud, "ISO.UPLOAD")) == 2


@pytest_twisted.ensureDeferred
async def test_failed_upload_is_an_alert_and_gets_new_parameters(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    await end(cloud, FAILED, **lost())
    assert await state_of(cloud) == ("UPLOAD_ERROR", "the connection was closed", False)
    assert (await events_of(cloud, "ALERT.UPLOAD.FAILED"))[0][0] == "ERROR"
    with refusal() as refused:
        await cloud.call("retryTemplate", id=params["id"])
    assert "renewUploadParamsForTemplate" in refused[0].hint and "--resume" in refused[0].hint
    again = await renew(cloud, params)
    first, second = orders(cloud)
    assert again["id"] == params["id"] and again["postURL"] == second.post_url != first.post_url
    assert first.job_id != second.job_id and first.template_id == second.template_id
    assert await state_of(cloud) == ("NOT_UPLOADED", "NotUploaded", False)
    await end(cloud, DONE)
    assert (await state_of(cloud))[2]


@pytest_twisted.ensureDeferred
async def test_unfinished_upload_keeps_its_url_and_gets_more_time(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    status = DownloadStatus(orders(cloud)[0].job_id, PROGRESS, 450, 1000)
    await report(cloud, storage.TEMPLATE_PROGRESS, status)
    cloud.settings.storage = SecondaryStorageConfig(upload_operation_timeout=7200)
    again = await renew(cloud, params)
    first, second = orders(cloud)
    assert again["postURL"] == params["postURL"] and again["signature"] != params["signature"]
    assert (second.job_id, second.total_bytes) == (first.job_id, 1000)
    assert second.expires_unix_s > first.expires_unix_s + 3000


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("is_away", [False, True])
async def test_upload_that_has_not_begun_gets_another_url(cloud: SmallCloud, is_away: bool) -> None:
    params = await begin(cloud)
    _, peer = add_receiver(cloud)
    if is_away:
        cloud.agents.disconnect("s-1-VM")
    again = await renew(cloud, params)
    assert again["postURL"] != params["postURL"]
    [first] = orders(cloud)
    aborted = [each.job_id for each in cloud.ssvm_peer.params_of(storage.TEMPLATE_ABORT)]
    assert aborted == ([] if is_away else [first.job_id])
    assert len(peer.params_of(TEMPLATE_UPLOAD)) == 1 and len(refs_of(cloud)) == 1


@pytest_twisted.ensureDeferred
async def test_parameters_are_renewed_only_by_the_owner_and_before_it_is_ready(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    with refusal() as refused:
        await renew(cloud, params, cloud.user)
    assert refused[0].code == 401
    with refusal() as wrong:
        await cloud.call("renewUploadParamsForIso", id=params["id"])
    assert wrong[0].code == 431 and "not an ISO" in wrong[0].message
    await end(cloud, DONE)
    with refusal() as ready:
        await renew(cloud, params)
    assert ready[0].code == 431 and "Ready already" in ready[0].message


@pytest_twisted.ensureDeferred
async def test_template_with_a_url_has_no_upload_to_renew(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(state=FAILED)
    with refusal() as refused:
        await renew(cloud, {"id": template.uuid})
    assert refused[0].code == 431 and "retryTemplate" in refused[0].hint
