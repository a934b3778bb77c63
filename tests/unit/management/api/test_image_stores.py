# SPDX-License-Identifier: Apache-2.0
"""Image stores by CloudStack's commands: added, listed, changed, deleted."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.image_stores.capacity import EVENT, record_usage
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.image_stores.service import StoreInUseError
from systemvm.management.state import events, store_contents, templates, zones
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadState, Store, StoreStats

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _mounts(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: StoreStats(10 * GIB, GIB)
    cloud.ssvm_peer.answers[storage.STORAGE_RELEASE] = lambda store: Acknowledgement()


async def added(cloud: SmallCloud, name: str = "second", **more: Any) -> dict[str, Any]:
    answer = await cloud.call(
        "addImageStore",
        provider="NFS",
        name=name,
        url=f"nfs://10.12.0.3/{name}",
        zoneid=cloud.zone.uuid,
        **more,
    )
    return dict(answer["imagestore"])


@pytest_twisted.ensureDeferred
async def test_a_store_is_mounted_measured_and_listed(cloud: SmallCloud) -> None:
    details = {"details[0].nfs.version": "3", "details[0].nfsmountopts": "nconnect=4"}
    store = await added(cloud, **details)
    assert cloud.ssvm_peer.params_of(storage.STORAGE_SETUP) == [
        Store("10.12.0.3", "/second", "3", "nconnect=4")
    ]
    assert (store["disksizetotal"], store["disksizeused"], store["readonly"]) == (10 * GIB, GIB, False)
    assert (store["providername"], store["protocol"], store["scope"]) == ("NFS", "nfs", "ZONE")
    assert (store["notificationthreshold"], store["capacitythreshold"]) == (0.75, 0.9)
    listed = (await cloud.call("listImageStores", name="second"))["imagestore"]
    assert listed == [store]
    assert len((await cloud.call("listImageStores"))["imagestore"]) == 2


@pytest_twisted.ensureDeferred
async def test_a_store_that_an_ssvm_cannot_mount_is_not_added(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: RpcError.refused(
        "mount_failed", "no route"
    )
    with pytest.raises(RpcError, match="no route"):
        await added(cloud)
    assert (await cloud.call("listImageStores"))["count"] == 1
    cloud.agents.disconnect("s-1-VM")
    await added(cloud)  # an SSVM that comes up later mounts it
    assert (await cloud.call("listImageStores"))["count"] == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"url": "nfs://10.12.0/x"}, "is not nfs://SERVER/PATH"),
        ({"url": "nfs://-a.example.test/x"}, "is not nfs://SERVER/PATH"),
        ({"url": "nfs://10.12.0.3"}, "is not nfs://SERVER/PATH"),
        ({"url": "nfs://10.12.0.3/x?version=3"}, "is not nfs://SERVER/PATH"),
        ({"url": "cifs://10.12.0.3/x"}, "is not nfs://SERVER/PATH"),
        ({"provider": "Swift"}, "Invalid value for parameter provider"),
        ({"provider": "S3"}, "details of the S3 store have no accesskey"),
        ({"details[0].nfs.version": "5"}, "unknown NFS version"),
        ({"details[0].nfsmountopts": "exec"}, "is not supported"),
        ({"details[0].colour": "blue"}, "colour is not a detail"),
        ({"details[0].host.path": "export"}, "not an absolute path"),
        ({"url": "nfs://10.12.0.2/export/secondary/"}, "already an image store with this URL"),
        ({"name": "secondary"}, "already an image store with this name"),
    ],
)
async def test_a_wrong_store_is_refused_with_its_reason(
    cloud: SmallCloud, parameters: dict[str, str], message: str
) -> None:
    given = {
        "provider": "NFS",
        "url": "nfs://10.12.0.3/x",
        "name": "x",
        "zoneid": cloud.zone.uuid,
    } | parameters
    with pytest.raises((ApiError, StoreDefinitionError), match=message) as refused:
        await cloud.call("addImageStore", **given)
    assert as_api_error(refused.value, "request-1").code is ErrorCode.PARAMETER
    assert cloud.ssvm_peer.calls == []


@pytest_twisted.ensureDeferred
async def test_read_only_is_listed_filtered_and_gets_no_templates(cloud: SmallCloud) -> None:
    answer = await cloud.call("updateImageStore", id=cloud.store.uuid, readonly="true")
    assert answer["imagestore"]["readonly"] is True
    [remounted] = cloud.ssvm_peer.params_of(storage.STORAGE_SETUP)
    assert remounted.read_only
    assert (await cloud.call("listImageStores", readonly="true"))["count"] == 1
    assert await cloud.call("listImageStores", readonly="false") == {}
    with pytest.raises(Exception, match="All image stores of the zone are read-only"):
        await cloud.call(
            "registerTemplate", name="t", url="https://x.test/t.qcow2", format="QCOW2", hypervisor="KVM"
        )
    answer = await cloud.call("updateImageStore", id=cloud.store.uuid, readonly="false")
    assert answer["imagestore"]["readonly"] is False


@pytest_twisted.ensureDeferred
async def test_nothing_is_deleted_from_a_read_only_store_until_it_is_writable(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda order: Acknowledgement()
    template, ref = cloud.add_template()
    await cloud.call("updateImageStore", id=cloud.store.uuid, readonly="true")
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert job.result["displaytext"] == "Its files will be deleted when a secondary storage VM is Up."
    await cloud.dispatch.reconcile()
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE) == []
    await cloud.call("updateImageStore", id=cloud.store.uuid, readonly="false")
    await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DELETE)) == 1
    assert cloud.database.run_now(templates.store_refs.by_id, ref.id).removed is not None


@pytest_twisted.ensureDeferred
async def test_what_the_zones_file_says_is_changed_there(cloud: SmallCloud) -> None:
    with pytest.raises(StoreDefinitionError, match="that of the zone's file"):
        await cloud.call("updateImageStore", id=cloud.store.uuid, name="other")
    with pytest.raises(StoreDefinitionError, match="is named in the zone's file"):
        await cloud.call("deleteImageStore", id=cloud.store.uuid)
    store = await added(cloud)
    renamed = (await cloud.call("updateImageStore", id=store["id"], name="third"))["imagestore"]
    assert renamed["name"] == "third"
    [released] = cloud.database.run_now(zones.release_stores, cloud.zone.id, ["another"])
    assert released.name == "secondary"
    await cloud.call("deleteImageStore", id=cloud.store.uuid)
    assert [row["name"] for row in (await cloud.call("listImageStores"))["imagestore"]] == ["third"]


@pytest_twisted.ensureDeferred
async def test_a_store_with_an_only_copy_is_not_deleted(cloud: SmallCloud) -> None:
    store = await added(cloud)
    row = cloud.database.run_now(zones.store_by_uuid, store["id"])
    template, first = cloud.add_template()
    ref = cloud.database.run_now(templates.add_store_ref, template.id, row.id, None)
    with pytest.raises(StoreInUseError, match="still gets tiny"):
        await cloud.call("deleteImageStore", id=store["id"])
    cloud.database.run_now(templates.update_store_ref, ref.id, state=DownloadState.DOWNLOADED)
    cloud.database.run_now(templates.update_store_ref, first.id, state=DownloadState.DOWNLOAD_ERROR)
    with pytest.raises(StoreInUseError, match=r"Cannot delete image store .* only copy of tiny"):
        await cloud.call("deleteImageStore", id=store["id"])
    cloud.database.run_now(templates.update_store_ref, first.id, state=DownloadState.DOWNLOADED)
    assert await cloud.call("deleteImageStore", id=store["id"]) == {"success": True}
    assert cloud.ssvm_peer.params_of(storage.STORAGE_RELEASE) == [Store("10.12.0.3", "/second")]
    assert cloud.database.run_now(store_contents.contents, row.id) == []
    assert (await cloud.call("listImageStores"))["count"] == 1


@pytest_twisted.ensureDeferred
async def test_passing_the_notification_threshold_is_an_event_once_each_way(cloud: SmallCloud) -> None:
    def measured(used: int) -> None:
        cloud.database.run_now(record_usage, cloud.store.id, StoreStats(100, used), 0.75)

    for used in (10, 80, 90, 70, 60):
        measured(used)
    found = cloud.database.run_now(events.newest, 10, events.EventFilter(type=EVENT))
    assert [(event.level, event.description) for event in reversed(found)] == [
        ("WARN", "Image store secondary is more than 75% full: 80%"),
        ("INFO", "Image store secondary is no longer more than 75% full: 70%"),
    ]
