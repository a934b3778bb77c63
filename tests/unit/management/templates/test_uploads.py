# SPDX-License-Identifier: Apache-2.0
"""Uploads: their parameters, their order to an SSVM, their states, and what ends them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.task import Clock

from small_cloud import ORIGIN, SmallCloud
from small_cloud_fakes import FakeAgents
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.api.errors import ApiError
from systemvm.management.api.failures import as_api_error
from systemvm.management.state import instances, schema, secrets, templates, uploads, zones
from systemvm.management.state.columns import now
from systemvm.management.state.status import InstanceState
from systemvm.management.templates import downloads
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.upload_signing import KEY_NAME
from systemvm.rpc.core.errors import BUSY, METHOD_NOT_FOUND, RpcError
from systemvm.service.errors import SystemVmError
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadError, DownloadState, DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest
from template_downloads import DONE, FAILED, PROGRESS, now_of, refs_of, register, report, status_of
from template_uploads import ADDRESS, SECOND_ADDRESS, add_receiver, receive_uploads, upload_parameters


@pytest.fixture(autouse=True)
def receiver(cloud: SmallCloud) -> None:
    receive_uploads(cloud)


async def begin(
    cloud: SmallCloud, as_user: Any = None, kind: str = "Template", **more: Any
) -> dict[str, Any]:
    answer = await cloud.call(f"getUploadParamsFor{kind}", as_user, **upload_parameters(cloud, kind, **more))
    found: dict[str, Any] = answer["getuploadparams"]
    return found


async def renew(cloud: SmallCloud, params: dict[str, Any], as_user: Any = None) -> dict[str, Any]:
    answer = await cloud.call("renewUploadParamsForTemplate", as_user, id=params["id"])
    found: dict[str, Any] = answer["getuploadparams"]
    return found


@contextmanager
def refusal() -> Iterator[list[ApiError]]:
    """Yield a list that gets the error that a client sees; nothing else is caught."""
    seen: list[ApiError] = []
    with pytest.raises(SystemVmError) as refused:
        yield seen
    seen.append(as_api_error(refused.value, "request-1"))


def orders(cloud: SmallCloud) -> list[UploadRequest]:
    return cloud.ssvm_peer.params_of(TEMPLATE_UPLOAD)


async def end(cloud: SmallCloud, state: DownloadState, **more: Any) -> None:
    [*_, order] = orders(cloud)
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(order.job_id, state, 1000, 1000, **more))


def lost() -> dict[str, Any]:
    return {"error": DownloadError("upload_broken", "the connection was closed", "upload it again")}


async def state_of(cloud: SmallCloud, command: str = "listTemplates") -> tuple[str, str, bool]:
    row = await status_of(cloud, command)
    return row["downloaddetails"][0]["downloadState"], row["status"], row["isready"]


async def events_of(cloud: SmallCloud, kind: str) -> list[tuple[str, str]]:
    found = (await cloud.call("listEvents", type=kind)).get("event", [])
    return [(each["level"], each["description"]) for each in reversed(found)]


# -- parameters ---------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_parameters_are_signed_as_cloudstack_does(cloud: SmallCloud) -> None:
    params = await begin(cloud)
    assert sorted(params) == ["expires", "id", "metadata", "postURL", "signature"]
    origin, _, upload_id = params["postURL"].rpartition("/upload/")
    assert origin == f"https://{ADDRESS}" and str(UUID(upload_id)) == upload_id
    sealed = cloud.database.run_now(secrets.sealed, KEY_NAME)
    assert sealed is not None
    text = params["metadata"] + params["postURL"] + params["expires"]
    digest = hmac.digest(cloud.seal.open(sealed).encode(), text.encode(), "sha1")
    assert base64.b64decode(params["signature"]) == digest


@pytest_twisted.ensureDeferred
async def test_ssvm_gets_the_same_values_and_never_the_key(cloud: SmallCloud) -> None:
    digest = "{SHA-256}" + "0" * 64
    params = await begin(cloud, cloud.user, checksum="0" * 64, ispublic="true")
    [order] = orders(cloud)
    assert (order.post_url, order.metadata, order.expires, order.signature) == (
        params["postURL"], params["metadata"], params["expires"], params["signature"],
    )  # fmt: skip
    assert 3590 < order.expires_unix_s - now().timestamp() <= 3600
    assert (order.checksum, order.public, order.allowed_origins) == (digest, True, [ORIGIN])
    assert (order.account_id, order.store) == (cloud.user.account.id, cloud.store.wire)
    assert order.max_size_bytes == cloud.settings.max_template_size_bytes("zone1")
    key = cloud.seal.open(cloud.database.run_now(secrets.sealed, KEY_NAME) or b"")
    assert key not in str(order) and order.signature not in str(order)
    rows = cloud.database.run_now(lambda c: c.execute(sa.select(schema.secrets)).all())
    assert len(rows) == 1 and key not in str(rows)


@pytest_twisted.ensureDeferred
async def test_zone_decides_how_long_parameters_are_valid_and_their_address(cloud: SmallCloud) -> None:
    cloud.settings.storage = SecondaryStorageConfig(
        origin="https://*.images.example.test:8443", upload_operation_timeout=120
    )
    params = await begin(cloud)
    assert params["postURL"].startswith("https://203-0-113-101.images.example.test:8443/upload/")
    assert 110 < orders(cloud)[0].expires_unix_s - now().timestamp() <= 120


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("kind", "parameters", "code", "named"),
    [
        ("Template", {"format": "ISO"}, 431, "format"),
        ("Template", {"format": "FLOPPY"}, 431, "format"),
        ("Template", {"hypervisor": "VMware"}, 431, "hypervisor"),
        ("Template", {"name": " "}, 431, "name"),
        ("Template", {"checksum": "https://x.test/SHA256SUMS"}, 431, "checksum"),
        ("Template", {"checksum": "{SHA-256}xyz"}, 431, "checksum"),
        ("Template", {"zoneid": "-1"}, 431, "zoneid"),
        ("Template", {"isfeatured": "true"}, 431, "isfeatured"),
        ("Template", {"url": "https://x.test/a.qcow2"}, 431, "url"),
        ("Template", {"account": "admin"}, 431, "domainid"),
        ("Template", {"bits": "32"}, 431, "bits"),
        ("Iso", {"format": "QCOW2"}, 431, "format"),
        ("Iso", {"hypervisor": "KVM"}, 431, "hypervisor"),
    ],
)
async def test_wrong_parameters_are_refused_by_name(
    cloud: SmallCloud, kind: str, parameters: dict[str, str], code: int, named: str
) -> None:
    with refusal() as refused:
        await begin(cloud, cloud.user, kind, **parameters)
    assert (refused[0].code, named in refused[0].message) == (code, True)
    assert refs_of(cloud) == [] and orders(cloud) == []


@pytest_twisted.ensureDeferred
async def test_volumes_are_of_another_release(cloud: SmallCloud) -> None:
    with refusal() as refused:
        await cloud.call("getUploadParamsForVolume", name="v", format="QCOW2", zoneid=cloud.zone.uuid)
    assert refused[0].code == 432 and "volumes cannot be uploaded" in refused[0].message
    assert "getUploadParamsForTemplate" in refused[0].hint


@pytest_twisted.ensureDeferred
async def test_accounts_have_a_limited_number_of_unfinished_uploads(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("systemvm.management.templates.uploads.MAX_UPLOADS_OF_ACCOUNT", 2)
    for name in ("a", "b"):
        await begin(cloud, cloud.user, name=name)
    with refusal() as refused:
        await begin(cloud, cloud.user, name="c")
    assert refused[0].code == 533 and "maximum is 2" in refused[0].message
    await begin(cloud, name="of another account")
    await end(cloud, DONE)  # that one
    with refusal():
        await begin(cloud, cloud.user, name="c")


@pytest_twisted.ensureDeferred
async def test_upload_stays_within_the_storage_of_its_account(cloud: SmallCloud) -> None:
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=1)
    _, ref = cloud.add_template(owner=cloud.user, name="first")
    for left_bytes in (4096, 0):
        size = (1 << 30) - left_bytes
        cloud.database.run_now(templates.update_store_ref, ref.id, state=DONE, physical_size_bytes=size)
        if left_bytes:
            await begin(cloud, cloud.user)
    [order] = orders(cloud)
    assert order.max_size_bytes == 4096
    with refusal() as refused:
        await begin(cloud, cloud.user, name="another")
    assert refused[0].code == 533 and "limit is 1 GiB" in refused[0].message
    assert len(refs_of(cloud)) == 2  # nothing is left of it
    await begin(cloud, name="administrators have no limit")
    assert orders(cloud)[1].max_size_bytes == cloud.settings.max_template_size_bytes("zone1")


# -- states -------------------------------------------------------------------------------------------------


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


# -- SSVMs --------------------------------------------------------------------------------------------------


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
async def test_upload_that_did_not_begin_ends_although_its_ssvm_is_away(cloud: SmallCloud) -> None:
    await begin(cloud, name="waits")
    await begin(cloud, name="runs")
    waits, runs = refs_of(cloud)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(runs.job_id, PROGRESS, 450, 1000))
    cloud.agents.disconnect("s-1-VM")
    await cloud.dispatch.reconcile()
    assert not now_of(cloud, waits).state.ended
    long_ago = now() - timedelta(seconds=1)
    cloud.database.run_now(lambda c: c.execute(schema.template_uploads.update().values(expires=long_ago)))
    await cloud.dispatch.reconcile()
    assert now_of(cloud, waits).error_code == "upload_expired"
    assert not now_of(cloud, runs).state.ended


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


# -- further copies -----------------------------------------------------------------------------------------


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
async def test_an_upload_goes_to_a_mounted_store_though_a_bucket_is_emptier(cloud: SmallCloud) -> None:
    cloud.database.run_now(
        zones.add_store, name="bucket", zone_id=cloud.zone.id, url="https://s3.test/images", provider=zones.S3
    )
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 50)
    params = await begin(cloud)
    template = cloud.database.run_now(templates.by_uuid, params["id"])
    ref = cloud.database.run_now(templates.store_ref_of, template.id)
    assert ref is not None
    assert ref.store_id == cloud.store.id
