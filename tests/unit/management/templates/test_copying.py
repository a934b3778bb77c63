# SPDX-License-Identifier: Apache-2.0
"""A template that is on one store comes to another by a copy; its URL is the last resort."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.state import templates, zones
from systemvm.management.state.copy_sources import choose_source
from systemvm.management.state.templates import StoreRef
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.copy_orders import MAX_COPY_FAILURES
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.storage import (
    CopyRequest,
    DownloadError,
    DownloadState,
    DownloadStatus,
    PublishedFile,
    Store,
)

READY, FAILED, WAITING = (
    DownloadState.DOWNLOADED,
    DownloadState.DOWNLOAD_ERROR,
    DownloadState.NOT_DOWNLOADED,
)


def second_store(cloud: SmallCloud, **columns: Any) -> ImageStore:
    values = {
        "name": "second",
        "zone_id": cloud.zone.id,
        "url": "nfs://10.12.0.3/second",
        "nfs_version": "4.2",
    }
    return cloud.database.run_now(zones.add_store, **(values | columns))


def wanted_copy(cloud: SmallCloud, **template: Any) -> tuple[StoreRef, StoreRef]:
    """Return a Ready copy, and one on a second store that is still to be made."""
    row, source = cloud.add_template(**template)
    store = second_store(cloud)
    return source, cloud.database.run_now(templates.add_store_ref, row.id, store.id, "request-1")


def now_of(cloud: SmallCloud, ref: StoreRef) -> StoreRef:
    return cloud.database.run_now(templates.store_refs.by_id, ref.id)


def failing(request: CopyRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, FAILED, error=DownloadError("checksum_mismatch", "differs"))


@pytest_twisted.ensureDeferred
async def test_a_second_copy_comes_from_the_first_and_not_from_the_url(cloud: SmallCloud) -> None:
    source, ref = wanted_copy(cloud)
    cloud.database.run_now(
        templates.update_store_ref, source.id, image_checksum="{SHA-256}ab", checksum="{MD5}00"
    )
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, READY, 10, 10, image_checksum="{SHA-256}ab"
    )
    await cloud.dispatch.reconcile()
    [request] = cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD) == []
    assert (request.source, request.store) == (cloud.store.wire, Store("10.12.0.3", "/second"))
    assert request.source_file == templates.file_of(source)
    assert (request.source_checksum, request.checksum) == ("{SHA-256}ab", "{MD5}00")
    copied = now_of(cloud, ref)
    assert (copied.state, copied.source_ref_id, copied.image_checksum) == (READY, source.id, "{SHA-256}ab")


@pytest_twisted.ensureDeferred
async def test_the_url_is_used_after_failed_copies(cloud: SmallCloud) -> None:
    _, ref = wanted_copy(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = failing
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(request.job_id, READY)
    for _ in range(MAX_COPY_FAILURES + 1):
        await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)) == MAX_COPY_FAILURES
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == 1
    ended = now_of(cloud, ref)
    assert (ended.state, ended.source_ref_id) == (READY, None)


@pytest_twisted.ensureDeferred
async def test_a_failed_copy_of_a_template_without_a_url_ends_with_its_reason(cloud: SmallCloud) -> None:
    _, ref = wanted_copy(cloud, url=None)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = failing
    for _ in range(MAX_COPY_FAILURES + 2):
        await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)) == MAX_COPY_FAILURES + 1
    ended = now_of(cloud, ref)
    assert (ended.state, ended.error_code) == (FAILED, "checksum_mismatch")


@pytest_twisted.ensureDeferred
async def test_an_older_agent_downloads_by_the_url(cloud: SmallCloud) -> None:
    _, ref = wanted_copy(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: RpcError(METHOD_NOT_FOUND, "no method")
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(request.job_id, READY)
    await cloud.dispatch.reconcile()
    await cloud.dispatch.reconcile()
    assert now_of(cloud, ref).state is READY


@pytest_twisted.ensureDeferred
async def test_a_download_that_has_begun_stays_one(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template(state=WAITING)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(
        request.job_id, DownloadState.DOWNLOAD_IN_PROGRESS, 1, 10
    )
    await cloud.dispatch.reconcile()
    other = cloud.database.run_now(templates.add_store_ref, template.id, second_store(cloud).id, None)
    path = f"template/tmpl/2/{template.id}/x.qcow2"
    cloud.database.run_now(templates.update_store_ref, other.id, state=READY, install_path=path)
    cloud.clock.advance(31)
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == 2
    assert now_of(cloud, ref).source_ref_id is None


@pytest_twisted.ensureDeferred
async def test_the_best_copy_is_shown_and_all_are_listed(cloud: SmallCloud) -> None:
    wanted_copy(cloud)
    [row] = (await cloud.call("listTemplates", templatefilter="all"))["template"]
    assert (row["isready"], row["status"]) == (True, "Download Complete")
    details = [(each["datastore"], each["downloadState"]) for each in row["downloaddetails"]]
    assert details == [("secondary", "DOWNLOADED"), ("second", "NOT_DOWNLOADED")]


def test_a_source_of_the_same_zone_comes_first_and_the_begun_one_stays(cloud: SmallCloud) -> None:
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    template, first = cloud.add_template()
    elsewhere = second_store(cloud, name="third", url="nfs://10.12.0.4/x", zone_id=zone.id)
    far = cloud.database.run_now(templates.add_store_ref, template.id, elsewhere.id, None)
    path = f"template/tmpl/1/{template.id}/far.qcow2"
    cloud.database.run_now(templates.update_store_ref, far.id, state=READY, install_path=path)
    target = cloud.database.run_now(templates.add_store_ref, template.id, second_store(cloud).id, None)
    found = cloud.database.run_now(choose_source, target)
    assert found is not None
    assert found.ref.id == first.id
    begun = cloud.database.run_now(templates.update_store_ref, target.id, source_ref_id=far.id)
    found = cloud.database.run_now(choose_source, begun)
    assert found is not None
    assert (found.ref.id, found.file) == (far.id, PublishedFile(1, template.id, "far.qcow2"))


def test_the_digest_of_the_urls_file_counts_only_if_it_was_stored_as_sent(cloud: SmallCloud) -> None:
    source, ref = wanted_copy(cloud)

    def checksum(**columns: Any) -> str | None:
        cloud.database.run_now(templates.update_store_ref, source.id, checksum="{MD5}00", **columns)
        found = cloud.database.run_now(choose_source, ref)
        assert found is not None
        return found.checksum

    assert checksum(physical_size_bytes=100, total_bytes=40) is None
    assert checksum(physical_size_bytes=100, total_bytes=100) == "{MD5}00"
    assert checksum(image_checksum="{SHA-256}ab") == "{SHA-256}ab"


@pytest_twisted.ensureDeferred
async def test_no_download_reaches_the_server_of_another_store(cloud: SmallCloud) -> None:
    cloud.add_template(state=WAITING)
    second_store(cloud)
    await cloud.dispatch.reconcile()
    [request] = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)
    assert "10.12.0.3" in request.denied_networks
