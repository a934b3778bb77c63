# SPDX-License-Identifier: Apache-2.0
"""Stores that only stage copies of what is in buckets: first for copies, and for nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.image_stores.replicas import keep_zone
from systemvm.management.image_stores.service import StoreInUseError
from systemvm.management.image_stores.staging import POLL_INTERVAL_S, Staging, StagingError
from systemvm.management.image_stores.staging_eviction import KEPT_FOR
from systemvm.management.state import extract_links, replicas, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadState, StoreStats
from unit.management.image_stores.bucket_templates import in_bucket

READY = DownloadState.DOWNLOADED
LONG_AGO = now() - KEPT_FOR - timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _mounts(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: StoreStats(1000, 10)
    cloud.ssvm_peer.answers[storage.STORAGE_RELEASE] = lambda store: Acknowledgement()


@pytest.fixture
def staging(cloud: SmallCloud) -> Staging:
    return Staging(cloud.clock, cloud.database, cloud.settings, lambda: None)


async def created(cloud: SmallCloud, **more: Any) -> ImageStore:
    parameters = {"url": "nfs://10.12.0.3/cache", "details[0].host.path": "/export/cache"} | more
    answer = await cloud.call("createSecondaryStagingStore", **parameters)
    return cloud.database.run_now(zones.store_by_uuid, answer["secondarystorage"]["id"])


def staged(cloud: SmallCloud, template: Template, store: ImageStore, **changes: Any) -> StoreRef:
    ref = cloud.database.run_now(templates.add_store_ref, template.id, store.id, None)
    values = {"state": READY, "physical_size_bytes": 400, "updated": LONG_AGO} | changes
    return cloud.database.run_now(templates.update_store_ref, ref.id, **values)


def copies(cloud: SmallCloud, template: Template) -> dict[int, StoreRef]:
    found = cloud.database.run_now(replicas.copies_in_zone, template.id, cloud.zone.id)
    return {ref.store_id: ref for ref in found}


async def ordered(cloud: SmallCloud, staging: Staging, template: Template) -> Deferred[None]:
    waiting = Deferred.fromCoroutine(staging.ensure(template.id, cloud.zone.id, for_host=True))
    await settled(cloud.database)
    return waiting


@pytest_twisted.ensureDeferred
async def test_a_staging_store_is_created_listed_and_deleted_in_cloudstacks_shape(cloud: SmallCloud) -> None:
    store = await created(cloud, provider="NFS", scope="zone", zoneid=cloud.zone.uuid)
    assert store.is_staging
    assert store.host_path == "/export/cache"
    [row] = (await cloud.call("listSecondaryStagingStores"))["imagestore"]
    assert (row["id"], row["url"], row["providername"], row["scope"], row["disksizetotal"]) == (
        store.uuid, "nfs://10.12.0.3/cache", "NFS", "ZONE", 1000,
    )  # fmt: skip
    for filters in (
        {"id": store.uuid},
        {"zoneid": cloud.zone.uuid},
        {"protocol": "nfs"},
        {"provider": "NFS"},
    ):
        assert (await cloud.call("listSecondaryStagingStores", **filters))["count"] == 1, filters
    assert "imagestore" not in await cloud.call("listSecondaryStagingStores", provider="S3")
    names = [each["name"] for each in (await cloud.call("listImageStores"))["imagestore"]]
    assert names == [cloud.store.name], "it is not an image store"
    assert await cloud.call("deleteSecondaryStagingStore", id=store.uuid) == {"success": True}
    assert cloud.ssvm_peer.params_of(storage.STORAGE_RELEASE) == [store.wire]
    assert "imagestore" not in await cloud.call("listSecondaryStagingStores")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "parameters",
    [
        {"url": "https://s3.example.test/images"},
        {"url": "nfs://10.12.0.3"},
        {"provider": "S3"},
        {"scope": "REGION"},
        {"details[0].accesskey": "AKID"},
        {"details[0].host.path": "relative"},
        {"url": "nfs://10.12.0.2/export/secondary"},
    ],
)
async def test_what_is_not_an_export_of_the_zone_is_refused(
    cloud: SmallCloud, parameters: dict[str, str]
) -> None:
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, url="nfs://10.12.0.2/export/secondary")
    with pytest.raises((ApiError, StoreDefinitionError)):
        await created(cloud, **parameters)
    assert "imagestore" not in await cloud.call("listSecondaryStagingStores")


@pytest_twisted.ensureDeferred
async def test_users_neither_create_nor_list_nor_delete_them(cloud: SmallCloud) -> None:
    store = await created(cloud)
    for command, parameters in (
        ("createSecondaryStagingStore", {"url": "nfs://10.12.0.4/x"}),
        ("listSecondaryStagingStores", {}),
        ("deleteSecondaryStagingStore", {"id": store.uuid}),
    ):
        with pytest.raises(ApiError, match="is not available"):
            await cloud.call(command, cloud.user, **parameters)


@pytest_twisted.ensureDeferred
async def test_the_commands_of_image_stores_do_not_take_it_and_the_other_way_round(cloud: SmallCloud) -> None:
    store = await created(cloud)
    for command in ("updateImageStore", "deleteImageStore", "retireImageStore", "adoptImageStoreTemplates"):
        with pytest.raises(NotFoundError, match="is a staging store"):
            await cloud.call(command, id=store.uuid)
    with pytest.raises(NotFoundError, match="is a staging store"):
        await cloud.call("migrateSecondaryStorageData", srcpool=cloud.store.uuid, destpools=store.uuid)
    with pytest.raises(NotFoundError, match="is an image store"):
        await cloud.call("deleteSecondaryStagingStore", id=cloud.store.uuid)


@pytest_twisted.ensureDeferred
async def test_it_gets_no_templates_no_replicas_and_no_moved_content(cloud: SmallCloud) -> None:
    store = await created(cloud)
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 1000, 800)
    await cloud.call(
        "registerTemplate", name="t", url="https://x.test/t.qcow2", format="QCOW2", hypervisor="KVM"
    )
    template, _ = cloud.add_template()
    cloud.settings.storage = cloud.settings.storage.__class__(replicas="all")
    assert cloud.database.run_now(keep_zone, cloud.zone, cloud.settings) == 0
    found = cloud.database.run_now(templates.list_all)
    assert all(store.id not in copies(cloud, each) for each in found)
    staged(cloud, template, store)
    second = cloud.database.run_now(
        zones.add_store, name="second", zone_id=cloud.zone.id, url="nfs://10.12.0.9/second"
    )
    assert cloud.database.run_now(keep_zone, cloud.zone, cloud.settings) >= 1
    assert second.id in copies(cloud, template), "a staged copy is not a replica"


@pytest_twisted.ensureDeferred
async def test_copies_for_hosts_go_to_a_staging_store_first(cloud: SmallCloud, staging: Staging) -> None:
    store = await created(cloud)
    template = in_bucket(cloud)
    waiting = await ordered(cloud, staging, template)
    ref = copies(cloud, template)[store.id]
    assert cloud.store.id not in copies(cloud, template)
    cloud.database.run_now(templates.update_store_ref, ref.id, state=READY)
    cloud.clock.advance(POLL_INTERVAL_S)
    await settled(cloud.database)
    await waiting


@pytest_twisted.ensureDeferred
async def test_one_that_the_host_cannot_read_is_for_links_only(cloud: SmallCloud, staging: Staging) -> None:
    store = await created(cloud, **{"details[0].host.path": "/export/cache"})
    cloud.database.run_now(zones.update_store, store.id, host_path=None)
    template = in_bucket(cloud)
    waiting = await ordered(cloud, staging, template)
    assert cloud.store.id in copies(cloud, template)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()


@pytest_twisted.ensureDeferred
async def test_a_full_one_loses_what_was_not_used_for_the_longest_time(
    cloud: SmallCloud, staging: Staging
) -> None:
    store = await created(cloud)
    cloud.database.run_now(zones.update_store, cloud.store.id, host_path=None)
    cloud.database.run_now(zones.set_store_usage, store.id, 1000, 850)
    template = in_bucket(cloud)
    bucket_id = next(iter(copies(cloud, template)))
    cloud.database.run_now(templates.update_store_ref, copies(cloud, template)[bucket_id].id,
                           physical_size_bytes=300)  # fmt: skip
    oldest, newer, recent, only = (cloud.add_template()[0] for _ in range(4))
    kept = [
        staged(cloud, newer, store, updated=LONG_AGO),
        staged(cloud, recent, store, updated=now()),
        staged(cloud, only, store, updated=LONG_AGO - timedelta(days=2)),
    ]
    cloud.database.run_now(
        templates.update_store_ref, copies(cloud, only)[cloud.store.id].id, state=DownloadState.DOWNLOAD_ERROR
    )
    first = staged(cloud, oldest, store, updated=LONG_AGO - timedelta(days=1))
    waiting = await ordered(cloud, staging, template)
    assert not waiting.called
    find = cloud.database.run_now
    assert find(templates.store_refs.by_id, first.id).delete_requested is not None
    assert all(find(templates.store_refs.by_id, ref.id).delete_requested is None for ref in kept)
    cloud.clock.advance(POLL_INTERVAL_S)
    await settled(cloud.database)
    assert all(find(templates.store_refs.by_id, ref.id).delete_requested is None for ref in kept), "it waits"
    find(templates.update_store_ref, first.id, removed=now())
    find(zones.set_store_usage, store.id, 1000, 450)
    cloud.clock.advance(POLL_INTERVAL_S)
    await settled(cloud.database)
    assert store.id in copies(cloud, template)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()


@pytest_twisted.ensureDeferred
async def test_a_full_one_without_anything_to_lose_is_an_error(cloud: SmallCloud, staging: Staging) -> None:
    store = await created(cloud)
    cloud.database.run_now(zones.update_store, cloud.store.id, host_path=None)
    cloud.database.run_now(zones.set_store_usage, store.id, 1000, 950)
    linked, _ = cloud.add_template()
    ref = staged(cloud, linked, store)
    cloud.database.run_now(
        extract_links.create, account_id=2, domain_id=1, template_id=linked.id, zone_id=cloud.zone.id,
        secret="s", origin="https://x.test", file_name="a", expires=now() + timedelta(hours=1),
    )  # fmt: skip
    template = in_bucket(cloud)
    with pytest.raises(StagingError, match="takes a copy") as failed:
        await staging.ensure(template.id, cloud.zone.id, for_host=True)
    assert "createSecondaryStagingStore" in failed.value.hint
    kept = cloud.database.run_now(templates.store_refs.by_id, ref.id)
    assert kept.delete_requested is None, "a link leads to it"


@pytest_twisted.ensureDeferred
async def test_a_use_keeps_a_copy(cloud: SmallCloud, staging: Staging) -> None:
    store = await created(cloud)
    template = in_bucket(cloud)
    ref = staged(cloud, template, store)
    await staging.ensure(template.id, cloud.zone.id, for_host=True)
    assert cloud.database.run_now(templates.store_refs.by_id, ref.id).updated > LONG_AGO


@pytest_twisted.ensureDeferred
async def test_its_copies_keep_no_store_alive_and_go_with_it(cloud: SmallCloud) -> None:
    store = await created(cloud)
    cloud.database.run_now(zones.release_stores, cloud.zone.id, [])
    template, ref = cloud.add_template()
    copy = staged(cloud, template, store)
    with pytest.raises(StoreInUseError, match="only copy"):
        await cloud.call("deleteImageStore", id=cloud.store.uuid)
    await cloud.call("deleteSecondaryStagingStore", id=store.uuid)
    assert cloud.database.run_now(templates.store_refs.by_id, copy.id).removed is not None
    assert cloud.database.run_now(templates.store_refs.by_id, ref.id).removed is None


@pytest_twisted.ensureDeferred
async def test_an_only_copy_on_it_is_not_lost(cloud: SmallCloud) -> None:
    store = await created(cloud)
    template, ref = cloud.add_template()
    staged(cloud, template, store)
    cloud.database.run_now(templates.update_store_ref, ref.id, state=DownloadState.DOWNLOAD_ERROR)
    with pytest.raises(StoreInUseError) as refused:
        await cloud.call("deleteSecondaryStagingStore", id=store.uuid)
    assert refused.value.hint == "wait until they are Ready on an image store"
