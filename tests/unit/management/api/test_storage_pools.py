# SPDX-License-Identifier: Apache-2.0
"""Storage pools as the API creates, changes and deletes them, and volumes in them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from present import present
from shared_pools import create_pool, create_volume, url_of
from small_cloud import SmallCloud
from small_cloud.primary_storage import FakePrimary
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import events, storage_pools, volumes
from systemvm.management.zone_model.pools import PoolAddress, read_url
from systemvm.management.zone_model.refusals import ModelError
from systemvm.service.errors import FailureCode, SystemVmError
from user_vms import deploy_running, deploy_stopped

GIB = 1 << 30


def rename(directory: Path, new: Path) -> Path:
    return directory.rename(new)


async def refused(cloud: SmallCloud, command: str, **parameters: Any) -> SystemVmError:
    with pytest.raises(SystemVmError) as caught:
        await cloud.call(command, **parameters)
    return caught.value


@pytest_twisted.ensureDeferred
async def test_a_volume_is_created_attached_and_deleted_in_a_second_pool(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    assert (pool.scope, pool.type) == ("ZONE", "SharedMountPoint")
    [listed] = (await cloud.call("listStoragePools", id=pool.uuid))["storagepool"]
    assert listed["ipaddress"] == "localhost"
    volume = await create_volume(cloud, pool)
    path = Path(pool.path) / f"{volume.uuid}.qcow2"
    assert path.exists()
    assert not cloud.primary.volume_path(volume.uuid).exists()
    [listed] = (await cloud.call("listVolumes", storageid=pool.uuid))["volume"]
    assert (listed["storage"], listed["storagetype"]) == ("shared", "shared")
    vm = await deploy_stopped(cloud)
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == 0, job.result
    await cloud.machines.start(vm.id)
    [disk] = cloud.hypervisor.specs[vm.instance_name].data_disks
    assert disk.path == path
    await cloud.job("detachVolume", id=volume.uuid)
    await cloud.call("deleteVolume", id=volume.uuid)
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_pools_are_listed_with_their_capacity(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud, tags="fast, ssd,fast")
    await create_volume(cloud, pool)
    [listed] = (await cloud.call("listStoragePools", id=pool.uuid))["storagepool"]
    assert listed["disksizetotal"] >= listed["disksizeused"] > 0
    assert (listed["disksizeallocated"], listed["overprovisionfactor"]) == (2 * GIB, "2")
    assert (listed["tags"], listed["scope"], listed["path"]) == ("fast,ssd", "ZONE", pool.path)
    [own] = (await cloud.call("listStoragePools", scope="HOST"))["storagepool"]
    assert own["disksizeallocated"] == 0, "the volume is not in the host's own directory"


@pytest_twisted.ensureDeferred
async def test_the_scope_of_a_pool_names_its_cluster_or_its_host(cloud: SmallCloud) -> None:
    [cluster] = (await cloud.call("listClusters"))["cluster"]
    of_cluster = await create_pool(cloud, "of-cluster", clusterid=cluster["id"])
    assert (of_cluster.scope, of_cluster.cluster_id) == ("CLUSTER", cloud.host.cluster_id)
    of_host = await create_pool(cloud, "of-host", scope="host", hostid=cloud.host.uuid)
    assert (of_host.scope, of_host.host_id, of_host.is_local) == ("HOST", cloud.host.id, True)
    await create_volume(cloud, of_host)
    same = {"name": "x", "zoneid": cloud.zone.uuid, "url": "SharedMountPoint://localhost/srv/x"}
    wrong = await refused(cloud, "createStoragePool", **same, scope="zone", clusterid=cluster["id"])
    assert wrong.message == "clusterid: must not be sent with scope=zone"
    assert (await refused(cloud, "createStoragePool", **same, scope="host")).message.startswith("hostid: ")
    assert (await refused(cloud, "createStoragePool", **same, scope="cluster")).message.startswith(
        "clusterid: "
    )


@pytest_twisted.ensureDeferred
async def test_hosts_without_disks_of_the_cloud_have_no_pool(cloud: SmallCloud, tmp_path: Path) -> None:
    zone_id = cloud.zone.uuid
    [pod] = (await cloud.call("listPods"))["pod"]
    for hypervisor in ("XenServer", "VMware"):
        made = await cloud.call(
            "addCluster", zoneid=zone_id, podid=pod["id"], clustername=hypervisor, hypervisor=hypervisor
        )
        parameters = {"name": "no", "clusterid": made["cluster"]["id"], "url": url_of(tmp_path)}
        wrong = await refused(cloud, "createStoragePool", zoneid=zone_id, **parameters)
        assert wrong.message.startswith(f"clusterid: cluster {hypervisor} has hosts of {hypervisor}")


@pytest_twisted.ensureDeferred
async def test_one_directory_is_not_two_pools(cloud: SmallCloud, tmp_path: Path) -> None:
    pool = await create_pool(cloud)
    link, name = tmp_path / "link", f"{cloud.host.name}-primary"
    link.symlink_to(pool.path)
    for directory, taken in ((cloud.primary.directory, name), (link, "shared")):
        wrong = await refused(
            cloud, "createStoragePool", name="two", zoneid=cloud.zone.uuid, url=url_of(directory)
        )
        assert wrong.message.endswith(f"is the directory of the storage pool {taken}, too")
    assert [each.name for each in cloud.database.run_now(storage_pools.list_created)] == ["shared"]
    assert list(Path(pool.path).glob(".systemvm-*")) == []  # noqa: ASYNC240


@pytest_twisted.ensureDeferred
async def test_a_disabled_pool_takes_no_new_volume_and_keeps_its_own(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, pool)
    answer = await cloud.call("updateStoragePool", id=pool.uuid, name="renamed", tags="", enabled=False)
    assert (answer["storagepool"]["name"], answer["storagepool"]["state"]) == ("renamed", "Disabled")
    why = await refused(cloud, "createVolume", name="more", size=1, storageid=pool.uuid)
    assert why.message == "storageid: renamed takes no volume: it is Disabled"
    job = await cloud.job("resizeVolume", id=volume.uuid, size=3)
    assert job.result_code == 0, job.result
    await cloud.call("updateStoragePool", id=pool.uuid, enabled=True)
    await create_volume(cloud, pool, name="more")


@pytest_twisted.ensureDeferred
async def test_tags_of_a_pool_are_cleared_by_an_empty_value(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    answer = await cloud.call("updateStoragePool", id=pool.uuid, tags="fast,big")
    assert answer["storagepool"]["tags"] == "fast,big"
    answer = await cloud.call("updateStoragePool", id=pool.uuid, tags="")
    assert not answer["storagepool"].get("tags")


@pytest_twisted.ensureDeferred
async def test_a_pool_with_a_volume_is_not_deleted(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, pool)
    why = await refused(cloud, "deleteStoragePool", id=pool.uuid)
    assert (why.message, why.code) == ("storage pool shared is in use: 1 volume: data", FailureCode.IN_USE)
    await cloud.call("deleteVolume", id=volume.uuid)
    assert await cloud.call("deleteStoragePool", id=pool.uuid) == {"success": True}
    names = [each["name"] for each in (await cloud.call("listStoragePools"))["storagepool"]]
    assert names == [f"{cloud.host.name}-primary"]
    kinds = [each.type for each in cloud.database.run_now(events.rows.all)]
    assert {"STORAGE.POOL.CREATE", "STORAGE.POOL.DELETE"} <= set(kinds)


@pytest_twisted.ensureDeferred
async def test_the_directory_of_a_host_is_not_deleted_or_disabled(cloud: SmallCloud) -> None:
    own = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    assert (await refused(cloud, "deleteStoragePool", id=own.uuid)).code is FailureCode.WRONG_STATE
    assert (await refused(cloud, "updateStoragePool", id=own.uuid, enabled=False)).message.startswith(
        "enabled: "
    )
    volume = await create_volume(cloud, own)
    assert volume.pool_id is None
    assert cloud.primary.volume_path(volume.uuid).exists()


@pytest_twisted.ensureDeferred
async def test_thresholds_and_overprovisioning_limit_what_a_pool_takes(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    [listed] = (await cloud.call("listStoragePools", id=pool.uuid))["storagepool"]
    total_gib = listed["disksizetotal"] // GIB
    fits = min(int(total_gib * 2 * 0.85), 1024)
    await cloud.call("updateConfiguration", name="storage.overprovisioning.factor", value="1")
    await cloud.call(
        "updateConfiguration", name="pool.storage.allocated.capacity.disablethreshold", value="0"
    )
    why = await refused(cloud, "createVolume", name="big", size=1, storageid=pool.uuid)
    assert why.code is FailureCode.NO_CAPACITY
    assert "pool.storage.allocated.capacity.disablethreshold" in why.message
    await cloud.call("resetConfiguration", name="pool.storage.allocated.capacity.disablethreshold")
    await cloud.call("resetConfiguration", name="storage.overprovisioning.factor")
    await cloud.call("updateConfiguration", name="pool.storage.capacity.disablethreshold", value="0")
    why = await refused(cloud, "createVolume", name="big", size=1, storageid=pool.uuid)
    assert "pool.storage.capacity.disablethreshold" in why.message
    await cloud.call("updateConfiguration", name="pool.storage.capacity.disablethreshold", value="1")
    await create_volume(cloud, pool, size=fits)
    for value in ("2", "-1", "much", " 0.7", "1_0e-1", "\u0660.\u0665", "0." + "5" * 2000, "nan"):
        wrong = await refused(
            cloud, "updateConfiguration", name="pool.storage.capacity.disablethreshold", value=value
        )
        assert "must be a number from 0 to 1" in wrong.message


@pytest_twisted.ensureDeferred
async def test_two_pools_are_created_at_the_same_time(cloud: SmallCloud) -> None:
    first = Deferred.fromCoroutine(create_pool(cloud, "first"))
    second = Deferred.fromCoroutine(create_pool(cloud, "second"))
    assert {(await first).name, (await second).name} == {"first", "second"}


@pytest_twisted.ensureDeferred
async def test_a_pool_is_opened_in_a_thread(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []

    def open_storage(directory: Path) -> FakePrimary:
        opened.append(threading.current_thread() is threading.main_thread())
        return FakePrimary(directory)

    monkeypatch.setattr(cloud.pools, "_open_storage", open_storage)
    pool = await create_pool(cloud)
    await create_volume(cloud, pool)
    assert opened == [False]


@pytest_twisted.ensureDeferred
async def test_disks_of_a_starting_vm_are_looked_up_in_a_thread(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, pool)
    vm = await deploy_running(cloud)
    await cloud.machines.stop(vm.id)
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == 0, job.result
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    looked_up: dict[str, bool] = {}
    exists = Path.exists

    def look_up(path: Path) -> bool:
        looked_up[path.stem] = threading.current_thread() is threading.main_thread()
        return exists(path)

    monkeypatch.setattr(Path, "exists", look_up)
    await cloud.machines.start(vm.id)
    assert {name: looked_up[name] for name in (volume.uuid, root.uuid)} == {
        volume.uuid: False,
        root.uuid: False,
    }


@pytest_twisted.ensureDeferred
async def test_a_directory_that_cannot_be_used_is_refused_with_its_reason(
    cloud: SmallCloud, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    missing = tmp_path / "missing"
    for path, reason in ((file, "it is not a directory"), (missing, "No such file or directory")):
        why = await refused(cloud, "createStoragePool", name="x", zoneid=cloud.zone.uuid, url=url_of(path))
        assert why.message == f"{path} cannot be a storage pool: {reason}"
    assert [pool.is_own_directory for pool in cloud.database.run_now(storage_pools.list_pools)] == [True]


@pytest_twisted.ensureDeferred
async def test_a_pool_whose_directory_is_gone_is_down_and_deletes_no_row(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, pool)
    away = rename(Path(pool.path), Path(f"{pool.path}-away"))
    [listed] = (await cloud.call("listStoragePools", id=pool.uuid))["storagepool"]
    assert listed["state"] == "Down"
    with pytest.raises(PrimaryStorageError, match="No such file or directory"):
        await cloud.volumes.delete(volume.id)
    rename(away, Path(pool.path))
    await cloud.volumes.finish_deletions()
    assert cloud.database.run_now(volumes.by_id, volume.id).removed is not None


@pytest_twisted.ensureDeferred
async def test_two_pools_have_neither_the_same_name_nor_the_same_place(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    zone = cloud.zone.uuid
    same_place = await refused(
        cloud, "createStoragePool", name="other", zoneid=zone, url=url_of(Path(pool.path))
    )
    assert same_place.code is FailureCode.IN_USE
    same_name = await refused(
        cloud, "createStoragePool", name="SHARED", zoneid=zone, url="SharedMountPoint://localhost/srv/x"
    )
    assert same_name.message == "name: SHARED is the name of another one"


@pytest_twisted.ensureDeferred
async def test_users_choose_no_pool(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    with pytest.raises(SystemVmError, match="storageid is for administrators only"):
        await cloud.call("createVolume", cloud.user, name="data", size=1, storageid=pool.uuid)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nfs://server.example.org/export", "is not an IP address"),
        ("nfs://192.0.2.1:111/export", "port 111 is not supported"),
        ("nfs://192.0.2.1/a/../etc", "without .."),
        ("nfs://192.0.2.1/", "must name a directory below /"),
        ("SharedMountPoint://other/srv", "has no server"),
        ("rbd://192.0.2.1/pool", "is not a supported kind"),
        ("nfs://[::1/x", "is not a URL"),
        (f"nfs://192.0.2.1/{'a' * 1025}", "the maximum is 1024"),
    ],
)
def test_a_url_that_names_no_pool_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        read_url(url)
    assert caught.value.message.startswith("url: ")


def test_urls_of_cloudstacks_page_are_read() -> None:
    assert read_url("nfs://192.0.2.1/export/primary") == PoolAddress(
        "NetworkFilesystem", "192.0.2.1", "/export/primary"
    )
    assert read_url("nfs://[2001:db8::1]/e") == PoolAddress("NetworkFilesystem", "2001:db8::1", "/e")
    for url in ("SharedMountPoint://localhost/mnt/x", "SharedMountPoint:///mnt/x/"):
        assert read_url(url) == PoolAddress("SharedMountPoint", None, "/mnt/x")
