# SPDX-License-Identifier: Apache-2.0
"""Downloads are assigned to SSVMs, and continued after losses and restarts."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from small_cloud.agents import FakeAgents
from small_cloud.rows import STORE
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import events, templates
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.ssvm_calls import STATUS_VALID_S
from systemvm.rpc.core.errors import BUSY, INTERNAL, NOT_CONNECTED, RpcError
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    DownloadRequest,
    DownloadStatus,
    ImageFormat,
    TransferRates,
)
from template_downloads import (
    DONE,
    PROGRESS,
    WAITING,
    begin,
    now_of,
    report,
    started,
    status_of,
)


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
async def test_steps_of_an_ssvm_with_a_late_clock_follow_the_assignment(
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


@pytest_twisted.ensureDeferred
async def test_an_ssvm_gets_the_rates_of_the_zone(cloud: SmallCloud) -> None:
    cloud.add_template(state=WAITING)
    cloud.settings.storage = SecondaryStorageConfig(
        max_download_bytes_per_s=100_000, max_total_download_bytes_per_s=300_000
    )
    await cloud.dispatch.reconcile()
    [request] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)
    assert request.rates == TransferRates(100_000, 300_000)


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
async def test_new_daemon_continues_downloads(cloud: SmallCloud, ref: StoreRef) -> None:
    await begin(cloud)
    agents = FakeAgents()
    peer = agents.connect("s-1-VM", Role.SSVM)
    peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(request.job_id, DONE, 1, 1)
    await DownloadDispatcher(
        Clock(), cloud.database, agents, cloud.settings, TemplateSources(cloud.seal), cloud.orders
    ).reconcile()
    assert now_of(cloud, ref).is_ready
