# SPDX-License-Identifier: Apache-2.0
"""Downloads are assigned to SSVMs, retried and continued after losses and restarts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from small_cloud_fakes import FakeAgents, FakePeer, FakeZoneFacts
from small_cloud_rows import STORE
from systemvm.management.api.errors import ApiError
from systemvm.management.state import events, templates
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.service import TemplateStateError
from systemvm.management.templates.ssvm_calls import RETRY_LAST_S, STATUS_VALID_S
from systemvm.rpc.core.errors import BUSY, FORBIDDEN, INTERNAL, NOT_CONNECTED, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    DownloadError,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    ImageFormat,
)

PROGRESS, DONE, FAILED, WAITING = (
    DownloadState.DOWNLOAD_IN_PROGRESS,
    DownloadState.DOWNLOADED,
    DownloadState.DOWNLOAD_ERROR,
    DownloadState.NOT_DOWNLOADED,
)


@pytest.fixture
def ref(cloud: SmallCloud) -> StoreRef:
    """A template that waits for its download."""
    return cloud.add_template(state=WAITING)[1]


def now_of(cloud: SmallCloud, ref: StoreRef) -> StoreRef:
    return cloud.database.run_now(templates.store_refs.by_id, ref.id)


def started(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, PROGRESS, received_bytes=0, total_bytes=1000)


async def status_of(cloud: SmallCloud, command: str = "listTemplates") -> dict[str, Any]:
    key, noun = ("isofilter", "iso") if command == "listIsos" else ("templatefilter", "template")
    [row] = (await cloud.call(command, **{key: "all"}))[noun]
    return dict(row)


def wire(status: DownloadStatus) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(status)
    return found


async def report(cloud: SmallCloud, method: str, status: DownloadStatus, by: Any = None) -> Any:
    return await cloud.from_agent(by or cloud.ssvm, method, wire(status))


# --- assigning


@pytest_twisted.ensureDeferred
async def test_registered_template_is_assigned_at_once(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    answer = await cloud.call(
        "registerTemplate",
        name="tiny",
        url="https://images.example.test/tiny.qcow2",
        format="QCOW2",
        hypervisor="KVM",
        checksum="{sha1}" + "0" * 40,
        displaytext="a tiny one",
    )
    await cloud.dispatch.reconcile()
    [request] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)
    [row] = answer["template"]
    assert (answer["count"], row["isready"], row["name"]) == (1, False, "tiny")
    assert request.url == "https://images.example.test/tiny.qcow2"
    assert (request.format, request.store, request.checksum) == (
        ImageFormat.QCOW2,
        STORE,
        "{SHA-1}" + "0" * 40,
    )
    assert request.account_id == cloud.admin.account.id
    assert request.source_ca_pem
    assert request.denied_networks == ["203.0.113.1/32"], "fetch cannot reach the cloud's own addresses"
    assert request.request_id == "request-1", "one id from the API to the worker's log"
    assert (await status_of(cloud))["status"] == "0% Downloaded"


@pytest_twisted.ensureDeferred
async def test_download_without_an_ssvm_waits_with_a_hint(cloud: SmallCloud, ref: StoreRef) -> None:
    cloud.agents.disconnect("s-1-VM")
    await cloud.dispatch.reconcile()
    row = await status_of(cloud)
    assert row["status"] == "0% Downloaded"
    assert row["hint"] == "Waiting for a secondary storage VM of zone zone1 to come Up."
    cloud.ssvm_peer = cloud.agents.connect("s-1-VM", Role.SSVM)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    row = await status_of(cloud)
    assert row["status"] == "0% Downloaded"
    assert "hint" not in row


@pytest_twisted.ensureDeferred
async def test_silent_ssvm_is_called_again_with_the_same_job(cloud: SmallCloud, ref: StoreRef) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    cloud.clock.advance(STATUS_VALID_S - 1)
    await report(cloud, storage.TEMPLATE_PROGRESS, DownloadStatus(ref.job_id, PROGRESS, 1, 1000))
    cloud.clock.advance(STATUS_VALID_S - 1)
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == 1, "its last report is still valid"
    cloud.clock.advance(1)
    await cloud.dispatch.reconcile()
    requests = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)
    assert [request.job_id for request in requests] == [ref.job_id, ref.job_id]


@pytest_twisted.ensureDeferred
async def test_steps_by_a_clock_that_is_behind_follow_the_assignment(
    cloud: SmallCloud, ref: StoreRef
) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(
        request.job_id,
        DONE,
        install_path="template/tmpl/2/1/x.qcow2",
        virtual_size_bytes=7,
        steps=[storage.DownloadStep("connects", 1.0), storage.DownloadStep("publishes", 2.0)],
    )
    await cloud.dispatch.reconcile()
    listed = cloud.database.run_now(events.newest, 4)
    kinds = [event.type.removeprefix("TEMPLATE.DOWNLOAD.") for event in reversed(listed)]
    assert kinds == ["ASSIGN", "STEP", "STEP", "SUCCESS"]
    assert "connects" in listed[2].description


@pytest_twisted.ensureDeferred
async def test_lost_final_report_is_recovered_by_a_later_call(cloud: SmallCloud, ref: StoreRef) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(
        request.job_id, DONE, install_path="template/tmpl/2/1/x.qcow2", virtual_size_bytes=7
    )
    await cloud.dispatch.reconcile()
    assert now_of(cloud, ref).is_ready
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == 1, "an ended download is not repeated"


@pytest_twisted.ensureDeferred
async def test_download_stays_with_its_ssvm_while_it_is_up(cloud: SmallCloud, ref: StoreRef) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    other_vm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    other = cloud.agents.connect(other_vm.instance_name, Role.SSVM)
    other.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    assert other.calls == []
    cloud.agents.disconnect("s-1-VM")
    await cloud.dispatch.reconcile()
    assert len(other.calls) == 1
    assert now_of(cloud, ref).agent_name == other_vm.instance_name


@pytest_twisted.ensureDeferred
async def test_new_downloads_go_to_the_least_loaded_ssvm(cloud: SmallCloud) -> None:
    other_vm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    other = cloud.agents.connect(other_vm.instance_name, Role.SSVM)
    for peer in (other, cloud.ssvm_peer):
        peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    for number in range(4):
        cloud.add_template(state=WAITING, name=f"t{number}")
    await cloud.dispatch.reconcile()
    assert (len(other.calls), len(cloud.ssvm_peer.calls)) == (2, 2)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "error",
    [
        RpcError(NOT_CONNECTED, "gone"),
        RpcError(BUSY, "too much"),
        RpcError.refused("busy", "all movers are busy"),
        RpcError.refused("mount_failed", "the store does not answer", "check it"),
    ],
)
async def test_temporary_error_keeps_a_download_waiting(
    cloud: SmallCloud, ref: StoreRef, error: RpcError
) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: error
    await cloud.dispatch.reconcile()
    row = await status_of(cloud)
    assert row["status"] == "0% Downloaded"
    assert error.message in row["hint"]
    assert now_of(cloud, ref).state is WAITING


@pytest_twisted.ensureDeferred
async def test_final_rejection_is_the_templates_error(cloud: SmallCloud, ref: StoreRef) -> None:
    refusal = RpcError.refused("url_denied", "the URL leads to 127.0.0.1", "use a public address")
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: refusal
    await cloud.dispatch.reconcile()
    row = await status_of(cloud)
    assert (row["status"], row["hint"], row["isready"]) == (
        "the URL leads to 127.0.0.1",
        "use a public address",
        False,
    )


@pytest_twisted.ensureDeferred
async def test_failed_call_does_not_delay_others(cloud: SmallCloud) -> None:
    cloud.add_template(state=WAITING, name="bad", url="http://bad.test/")
    cloud.add_template(state=WAITING, name="good")

    def answer(request: DownloadRequest) -> Any:
        return RpcError(INTERNAL, "x") if request.url == "http://bad.test/" else started(request)

    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = answer
    await cloud.dispatch.reconcile()
    states = cloud.database.run_now(templates.store_refs.all)
    assert [ref.state for ref in states] == [WAITING, PROGRESS]


# --- reports of SSVMs


async def begin(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()


@pytest_twisted.ensureDeferred
async def test_the_texts_are_cloudstacks_from_first_byte_to_ready(cloud: SmallCloud, ref: StoreRef) -> None:
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
        {"datastore": "secondary", "downloadPercent": "100", "downloadState": "DOWNLOADED"}
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
async def test_invalid_checksum_fails_the_template_at_once(cloud: SmallCloud) -> None:
    """CloudStack registers it too, and clients wait for the download to fail."""
    ssvm = cloud.agents.connect("s-1-VM", Role.SSVM)
    await cloud.call(
        "registerTemplate", name="tiny", url="http://images.example.test/tiny.qcow2", format="QCOW2",
        hypervisor="KVM", zoneid=cloud.zone.uuid, checksum="{sha-1}someInvalidValue",
    )  # fmt: skip
    row = await status_of(cloud)
    assert row["status"] == (
        "the checksum's digest 'someinvalidvalue' is not hexadecimal; write it as {ALGORITHM}hexadecimal"
    )
    assert (row["checksum"], row["downloaddetails"][0]["downloadState"]) == (
        "someInvalidValue",
        "DOWNLOAD_ERROR",
    )
    assert ssvm.params_of(storage.TEMPLATE_DOWNLOAD) == []


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


# --- deleting


@pytest_twisted.ensureDeferred
async def test_deleted_template_is_removed_with_its_files_at_once(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert job.result == {"success": True}
    [order] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)
    assert (order.account_id, order.template_id) == (template.account_id, template.id)
    assert await cloud.call("listTemplates", templatefilter="all") == {}
    assert now_of(cloud, ref).removed is not None


@pytest_twisted.ensureDeferred
async def test_files_are_deleted_later_when_no_ssvm_is_up(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    cloud.agents.disconnect("s-1-VM")
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert "when a secondary storage VM is Up" in job.result["displaytext"]
    assert await cloud.call("listTemplates", templatefilter="all") == {}
    peer = cloud.agents.connect("s-1-VM", Role.SSVM)
    peer.answers[storage.TEMPLATE_DELETE] = lambda _: RpcError.refused("store_failed", "not now")
    await cloud.dispatch.reconcile()
    assert now_of(cloud, ref).removed is None
    cloud.clock.advance(RETRY_LAST_S)
    peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    await cloud.dispatch.reconcile()
    assert now_of(cloud, ref).removed is not None


@pytest_twisted.ensureDeferred
async def test_deleting_during_a_download_aborts_it(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template(state=WAITING)
    await begin(cloud)
    cloud.ssvm_peer.answers |= {
        storage.TEMPLATE_ABORT: lambda _: Acknowledgement(),
        storage.TEMPLATE_DELETE: lambda _: Acknowledgement(),
    }
    await cloud.job("deleteTemplate", id=template.uuid)
    assert [order.job_id for order in cloud.ssvm_peer.params_of(storage.TEMPLATE_ABORT)] == [ref.job_id]
    cloud.ssvm_peer.calls.clear()
    await report(cloud, storage.TEMPLATE_FINISHED, DownloadStatus(ref.job_id, DONE, 1, 1))
    await cloud.dispatch.reconcile()
    methods = {method for method, _ in cloud.ssvm_peer.calls}
    assert methods <= {storage.STORAGE_STATS}, "it is neither downloaded nor deleted again"


@pytest_twisted.ensureDeferred
async def test_deletion_waits_for_the_call_about_its_download(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(state=WAITING)
    entered: Deferred[DownloadRequest] = Deferred()
    release: Deferred[None] = Deferred()

    class SlowPeer(FakePeer):
        async def call(self, method: str, params: Any = None, **more: Any) -> Any:
            if method == storage.TEMPLATE_DOWNLOAD and not entered.called:
                entered.callback(params)
                await release
            return await super().call(method, params, **more)

    peer = SlowPeer()
    peer.answers = {
        storage.TEMPLATE_DOWNLOAD: started,
        storage.TEMPLATE_ABORT: lambda _: Acknowledgement(),
        storage.TEMPLATE_DELETE: lambda _: Acknowledgement(),
    }
    cloud.agents.peers["s-1-VM"] = (Role.SSVM, peer)
    scan = Deferred.fromCoroutine(cloud.dispatch.reconcile())
    await entered
    other = Deferred.fromCoroutine(cloud.dispatch.reconcile())
    await other
    assert peer.calls == [], "another pass makes no second call"
    job = await cloud.call("deleteTemplate", id=template.uuid)
    release.callback(None)
    await scan
    assert (await cloud.jobs.wait(job["jobid"])).result == {"success": True}
    assert [method for method, _ in peer.calls if method != storage.STORAGE_STATS] == [
        storage.TEMPLATE_DOWNLOAD,
        storage.TEMPLATE_ABORT,
        storage.TEMPLATE_DELETE,
    ]


@pytest_twisted.ensureDeferred
async def test_new_daemon_continues_downloads(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    agents = FakeAgents()
    peer = agents.connect("s-1-VM", Role.SSVM)
    peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(request.job_id, DONE, 1, 1)
    await DownloadDispatcher(Clock(), cloud.database, agents, FakeZoneFacts()).reconcile()
    assert now_of(cloud, ref).is_ready
