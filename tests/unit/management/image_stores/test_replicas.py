# SPDX-License-Identifier: Apache-2.0
"""How many copies of each template a zone has, by its policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.image_stores.replicas import RETRY_AFTER
from systemvm.management.state import replicas, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore
from systemvm.wire import storage
from systemvm.wire.storage import DownloadState, DownloadStatus

READY, FAILED, WAITING = (
    DownloadState.DOWNLOADED,
    DownloadState.DOWNLOAD_ERROR,
    DownloadState.NOT_DOWNLOADED,
)


def another_store(cloud: SmallCloud, number: int, **columns: Any) -> ImageStore:
    values = {"name": f"store{number}", "zone_id": cloud.zone.id, "nfs_version": "4.2"}
    url = f"nfs://10.12.0.{number}/export"
    return cloud.database.run_now(zones.add_store, url=url, **(values | columns))


def policy(cloud: SmallCloud, count: int | Literal["all"]) -> None:
    cloud.settings.storage = SecondaryStorageConfig(replicas=count)


def copies(cloud: SmallCloud, template: Template) -> list[StoreRef]:
    return cloud.database.run_now(replicas.copies_in_zone, template.id, cloud.zone.id)


def places(cloud: SmallCloud, template: Template) -> set[tuple[int, DownloadState]]:
    return {(ref.store_id, ref.state) for ref in copies(cloud, template)}


@pytest_twisted.ensureDeferred
async def test_one_copy_is_the_default(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    another_store(cloud, 3)
    await cloud.replicas.run_pass()
    assert places(cloud, template) == {(cloud.store.id, READY)}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("count", "ordered"), [(2, 1), (3, 2), (7, 2), ("all", 2)])
async def test_a_ready_template_gets_the_copies_of_the_policy(
    cloud: SmallCloud, count: Any, ordered: int
) -> None:
    policy(cloud, count)
    template, _ = cloud.add_template()
    waiting, _ = cloud.add_template(state=WAITING)
    another_store(cloud, 3)
    another_store(cloud, 4)
    await cloud.replicas.run_pass()
    await cloud.replicas.run_pass()
    assert len(copies(cloud, template)) == 1 + ordered
    assert len(copies(cloud, waiting)) == 1, "nothing can be copied yet"


@pytest_twisted.ensureDeferred
async def test_copies_end_at_the_policy(cloud: SmallCloud) -> None:
    policy(cloud, "all")
    template, _ = cloud.add_template()
    store = another_store(cloud, 3)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, READY, install_path=f"template/tmpl/1/{template.id}/x.qcow2"
    )
    await cloud.replicas.run_pass()
    await cloud.dispatch.reconcile()
    await cloud.replicas.run_pass()
    assert places(cloud, template) == {(cloud.store.id, READY), (store.id, READY)}


@pytest_twisted.ensureDeferred
async def test_read_only_full_and_retiring_stores_get_no_copy(cloud: SmallCloud) -> None:
    policy(cloud, "all")
    template, _ = cloud.add_template()
    another_store(cloud, 3, read_only=True)
    another_store(cloud, 4, retiring=now())
    another_store(cloud, 5, capacity_bytes=100, used_bytes=95)
    await cloud.replicas.run_pass()
    assert places(cloud, template) == {(cloud.store.id, READY)}


@pytest_twisted.ensureDeferred
async def test_a_copy_on_a_retiring_store_is_replaced(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    store = another_store(cloud, 3)
    cloud.database.run_now(zones.update_store, cloud.store.id, retiring=now())
    await cloud.replicas.run_pass()
    assert places(cloud, template) == {(cloud.store.id, READY), (store.id, WAITING)}


@pytest_twisted.ensureDeferred
async def test_a_download_for_a_store_that_became_read_only_goes_to_another(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template(state=WAITING)
    cloud.database.run_now(zones.update_store, cloud.store.id, read_only=True)
    await cloud.replicas.run_pass()
    [ref] = copies(cloud, template)
    assert (ref.store_id, ref.error_code) == (cloud.store.id, "no_store")
    assert "read-only" in (ref.error_hint or "")
    store = another_store(cloud, 3)
    await cloud.replicas.run_pass()
    assert places(cloud, template) == {(store.id, WAITING)}


@pytest_twisted.ensureDeferred
async def test_a_failed_copy_is_ordered_again_later(cloud: SmallCloud) -> None:
    policy(cloud, "all")
    template, _ = cloud.add_template()
    store = another_store(cloud, 3)
    await cloud.replicas.run_pass()
    ref = next(ref for ref in copies(cloud, template) if ref.store_id == store.id)
    cloud.database.run_now(templates.update_store_ref, ref.id, state=FAILED)
    await cloud.replicas.run_pass()
    assert (store.id, FAILED) in places(cloud, template)
    long_ago = now() - RETRY_AFTER - timedelta(seconds=1)
    cloud.database.run_now(templates.update_store_ref, ref.id, updated=long_ago)
    await cloud.replicas.run_pass()
    assert (store.id, WAITING) in places(cloud, template)


@pytest_twisted.ensureDeferred
async def test_a_deleted_template_is_not_copied(cloud: SmallCloud) -> None:
    policy(cloud, "all")
    template, _ = cloud.add_template()
    another_store(cloud, 3)
    cloud.database.run_now(templates.request_deletion, template.id)
    await cloud.replicas.run_pass()
    assert copies(cloud, template) == []
