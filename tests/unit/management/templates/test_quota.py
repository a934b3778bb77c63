# SPDX-License-Identifier: Apache-2.0
"""What an account can still store in a zone goes with each download."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import templates, zones
from systemvm.management.state.status import InstanceType
from systemvm.management.templates import downloads
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.storage import DownloadError, DownloadState, DownloadStatus, QuotaReservation
from template_downloads import WAITING, report

GIB = 1 << 30


async def quota_of_a_download(cloud: SmallCloud, **columns: Any) -> int | None:
    _, ref = cloud.add_template(state=WAITING, **({"owner": cloud.user} | columns))
    await cloud.dispatch.reconcile()
    orders = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)
    # those that run are sent again beside it, in any order
    [quota] = [order.quota_bytes for order in orders if order.job_id == ref.job_id]
    result: int | None = quota
    return result


def limit(cloud: SmallCloud, gib: int | None) -> None:
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=gib)


def add_ready(cloud: SmallCloud, size_bytes: int, **columns: Any) -> tuple[templates.Template, int]:
    template, ref = cloud.add_template(**({"owner": cloud.user} | columns))
    cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=size_bytes)
    return template, ref.id


@pytest_twisted.ensureDeferred
async def test_without_a_limit_there_is_no_quota(cloud: SmallCloud) -> None:
    add_ready(cloud, GIB)
    assert await quota_of_a_download(cloud) is None


@pytest_twisted.ensureDeferred
async def test_ready_templates_and_isos_count(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    add_ready(cloud, GIB)
    add_ready(cloud, GIB, owner=cloud.admin)
    assert await quota_of_a_download(cloud) == 3 * GIB


@pytest_twisted.ensureDeferred
async def test_an_account_that_has_more_has_nothing_left(cloud: SmallCloud) -> None:
    limit(cloud, 1)
    add_ready(cloud, 2 * GIB)
    assert await quota_of_a_download(cloud) == 0


@pytest_twisted.ensureDeferred
async def test_administrators_are_not_limited(cloud: SmallCloud) -> None:
    limit(cloud, 1)
    assert await quota_of_a_download(cloud, owner=cloud.admin) is None


@pytest_twisted.ensureDeferred
async def test_copies_and_deleted_templates_do_not_count(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    template, _ = add_ready(cloud, GIB)
    second = cloud.database.run_now(
        zones.add_store, name="second", zone_id=cloud.zone.id, url="nfs://10.12.0.3/x", nfs_version="4.2"
    )
    copy = cloud.database.run_now(templates.add_store_ref, template.id, second.id, None)
    ready = {"state": DownloadState.DOWNLOADED, "physical_size_bytes": GIB}
    cloud.database.run_now(templates.update_store_ref, copy.id, **ready)
    deleted, _ = add_ready(cloud, GIB)
    cloud.database.run_now(templates.request_deletion, deleted.id)
    assert await quota_of_a_download(cloud) == 3 * GIB


@pytest_twisted.ensureDeferred
async def test_what_another_ssvm_receives_counts_already(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    _, ref_id = add_ready(cloud, 0)
    running = {"state": DownloadState.DOWNLOAD_IN_PROGRESS, "total_bytes": GIB, "agent_name": "s-99-VM"}
    cloud.database.run_now(templates.update_store_ref, ref_id, **running)
    assert await quota_of_a_download(cloud) == 3 * GIB


# -- reservations -------------------------------------------------------------------------------------------


def add_running(cloud: SmallCloud, agent_name: str, **columns: Any) -> templates.StoreRef:
    """Add a download of which its SSVM has reported nothing yet."""
    _, ref = cloud.add_template(state=WAITING, **({"owner": cloud.user} | columns))
    return cloud.database.run_now(templates.update_store_ref, ref.id, agent_name=agent_name, received_bytes=0)


async def reserve(cloud: SmallCloud, ref: templates.StoreRef, size_bytes: int, by: Any = None) -> str:
    """Have the SSVM of a download reserve; return the reason of a refusal."""
    params = msgspec.to_builtins(QuotaReservation(ref.job_id, size_bytes))
    try:
        await cloud.from_agent(by or cloud.ssvm, storage.TEMPLATE_RESERVE, params)
    except RpcError as error:
        return error.reason
    return ""


@pytest_twisted.ensureDeferred
async def test_two_ssvms_that_reserve_at_one_moment_do_not_pass_the_limit_together(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    other = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    first, second = add_running(cloud, cloud.ssvm.instance_name), add_running(cloud, other.instance_name)
    results = await gatherResults(
        [
            Deferred.fromCoroutine(reserve(cloud, first, 3 * GIB)),
            Deferred.fromCoroutine(reserve(cloud, second, 3 * GIB, other)),
        ]
    )
    assert sorted(results) == ["", "quota_exceeded"]
    refused = second if results[1] else first
    assert await reserve(cloud, refused, GIB, other if refused is second else None) == ""
    assert await quota_of_a_download(cloud) == 0


@pytest_twisted.ensureDeferred
async def test_a_reservation_is_replaced_and_ends_with_its_download(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    first, second = (add_running(cloud, cloud.ssvm.instance_name) for _ in range(2))
    for _ in range(2):
        assert await reserve(cloud, first, 3 * GIB) == "", "a repeated call counts once"
    assert await reserve(cloud, second, 2 * GIB) == "quota_exceeded"
    assert await reserve(cloud, first, 2 * GIB) == ""
    assert await reserve(cloud, second, 2 * GIB) == ""
    error = DownloadError("http_status", "404 Not Found")
    cloud.database.run_now(downloads.fail, first.id, error)
    assert await reserve(cloud, second, 4 * GIB) == ""


@pytest_twisted.ensureDeferred
async def test_a_report_without_a_size_keeps_the_reservation(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    first, second = (add_running(cloud, cloud.ssvm.instance_name) for _ in range(2))
    assert await reserve(cloud, first, 3 * GIB) == ""
    restarted = DownloadStatus(first.job_id, DownloadState.DOWNLOAD_IN_PROGRESS)
    await report(cloud, storage.TEMPLATE_PROGRESS, restarted)
    assert await reserve(cloud, second, 2 * GIB) == "quota_exceeded"


@pytest_twisted.ensureDeferred
async def test_a_further_copy_of_a_template_needs_no_room(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    template, _ = add_ready(cloud, 4 * GIB)
    second = cloud.database.run_now(
        zones.add_store, name="second", zone_id=cloud.zone.id, url="nfs://10.12.0.3/x", nfs_version="4.2"
    )
    copy = cloud.database.run_now(templates.add_store_ref, template.id, second.id, None)
    copy = cloud.database.run_now(templates.update_store_ref, copy.id, agent_name=cloud.ssvm.instance_name)
    limit(cloud, 1)
    assert await reserve(cloud, copy, 4 * GIB) == ""


@pytest_twisted.ensureDeferred
async def test_an_ssvm_reserves_for_its_own_jobs_only(cloud: SmallCloud) -> None:
    ref = add_running(cloud, "s-99-VM")
    with pytest.raises(RpcError) as refused:
        await cloud.from_agent(
            cloud.ssvm, storage.TEMPLATE_RESERVE, msgspec.to_builtins(QuotaReservation(ref.job_id, 1))
        )
    assert refused.value.code != METHOD_NOT_FOUND
    assert cloud.database.run_now(templates.store_refs.by_id, ref.id).reserved_bytes is None


@pytest_twisted.ensureDeferred
async def test_administrators_and_forgotten_jobs_reserve_nothing(cloud: SmallCloud) -> None:
    limit(cloud, 1)
    ref = add_running(cloud, cloud.ssvm.instance_name, owner=cloud.admin)
    assert await reserve(cloud, ref, 9 * GIB) == ""
    assert await reserve(cloud, evolve(ref, job_id="gone"), 9 * GIB) == ""
