# SPDX-License-Identifier: Apache-2.0
"""Provisioning types and storage tags of offerings, and who gets the last place of a pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from present import present
from settling import settled
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError
from systemvm.management.primary import pool_usage
from systemvm.management.primary.pool_usage import DiskUsage
from systemvm.management.state import instances, storage_pools, volumes
from systemvm.management.state.status import Provisioning
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.templates import Template
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.errors import NoPoolError
from user_vms import deploy_running, deployment_parameters

GIB = 1 << 30


def own_pool(cloud: SmallCloud) -> StoragePool:
    return present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))


async def service_offering(cloud: SmallCloud, memory: int, **more: Any) -> str:
    wanted = {"name": f"m{memory}", "cpunumber": 1, "memory": memory} | more
    return str((await cloud.call("createServiceOffering", **wanted))["serviceoffering"]["id"])


async def disk_offering(cloud: SmallCloud, name: str, **more: Any) -> dict[str, Any]:
    wanted = {"name": name, "disksize": 2} | more
    answer: dict[str, Any] = (await cloud.call("createDiskOffering", **wanted))["diskoffering"]
    return answer


async def root_disk(cloud: SmallCloud, template: Template, offering: str) -> Volume:
    given = await deployment_parameters(cloud, template, serviceofferingid=offering)
    job = await cloud.job("deployVirtualMachine", **given)
    assert job.result_code == 0, job.result
    vm = cloud.database.run_now(instances.by_uuid, job.result["virtualmachine"]["id"])
    return present(cloud.database.run_now(volumes.root_of, vm.id))


async def data_disk(cloud: SmallCloud, offering: dict[str, Any], **more: Any) -> Volume:
    job = await cloud.job("createVolume", **{"name": "data", "diskofferingid": offering["id"]} | more)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(volumes.by_uuid, job.result["volume"]["id"])


async def shown(cloud: SmallCloud, volume: Volume) -> str:
    [listed] = (await cloud.call("listVolumes", id=volume.uuid))["volume"]
    return str(listed["provisioningtype"])


@pytest.mark.parametrize("wanted", ["sparse", "fat", "FAT"])
@pytest_twisted.ensureDeferred
async def test_a_root_disk_is_a_full_copy_by_its_offering(cloud: SmallCloud, wanted: str) -> None:
    template, _ = cloud.add_template()
    offering = await service_offering(cloud, 300, provisioningtype=wanted)
    [listed] = (await cloud.call("listServiceOfferings", id=offering))["serviceoffering"]
    assert listed["provisioningtype"] == wanted.lower()
    disk = await root_disk(cloud, template, offering)
    assert cloud.primary.provisioned[disk.uuid] is Provisioning(wanted.lower())
    assert disk.uuid not in cloud.primary.clones
    assert await shown(cloud, disk) == wanted.lower()


@pytest_twisted.ensureDeferred
async def test_a_root_disk_is_a_linked_clone_by_default(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    disk = await root_disk(cloud, template, await service_offering(cloud, 300))
    assert disk.uuid in cloud.primary.clones
    assert disk.uuid not in cloud.primary.provisioned
    assert await shown(cloud, disk) == "thin"


@pytest_twisted.ensureDeferred
async def test_a_data_disk_keeps_its_type_when_it_is_moved(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    offering = await disk_offering(cloud, "fat", provisioningtype="fat")
    assert offering["provisioningtype"] == "fat"
    volume = await data_disk(cloud, offering)
    assert cloud.primary.provisioned[volume.uuid] is Provisioning.FAT
    assert await shown(cloud, volume) == "fat"
    job = await cloud.job("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)
    assert job.result_code == 0, job.result
    assert (await cloud.pools.of(pool.id)).provisioned[volume.uuid] is Provisioning.FAT


@pytest_twisted.ensureDeferred
async def test_an_unknown_type_is_refused(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="provisioningtype"):
        await disk_offering(cloud, "thick", provisioningtype="thick")


@pytest_twisted.ensureDeferred
async def test_a_volume_is_only_in_pools_with_all_tags_of_its_offering(cloud: SmallCloud) -> None:
    fast, _ = await create_pool(cloud, "fast", tags="ssd,fast"), await create_pool(cloud, "slow", tags="ssd")
    template, _ = cloud.add_template()
    offering = await disk_offering(cloud, "d", storagetype="shared", tags="fast, ssd")
    assert (offering["storagetype"], offering["tags"]) == ("shared", "fast,ssd")
    of_vms = await service_offering(cloud, 300, storagetype="shared", tags="fast")
    [listed] = (await cloud.call("listServiceOfferings", id=of_vms))["serviceoffering"]
    assert listed["storagetags"] == "fast"
    for _ in range(3):  # by its room alone it would be the other pool's turn
        assert (await data_disk(cloud, offering)).pool_id == fast.id
        assert (await root_disk(cloud, template, of_vms)).pool_id == fast.id


@pytest_twisted.ensureDeferred
async def test_missing_tags_are_named(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud, "slow", tags="hdd")
    offering = await disk_offering(cloud, "d", storagetype="shared", tags="fast,hdd")
    with pytest.raises(NoPoolError, match=r"slow: it does not have the tags of the offering: fast \("):
        await cloud.call("createVolume", name="data", diskofferingid=offering["id"])
    local = await disk_offering(cloud, "local", tags="fast")
    with pytest.raises(NoPoolError, match="does not have the tags of the offering: fast"):
        await cloud.call("createVolume", name="data", diskofferingid=local["id"])
    with pytest.raises(NoPoolError, match="storageid: slow takes no volume: it does not have the tags"):
        await cloud.call("createVolume", name="data", diskofferingid=local["id"], storageid=pool.uuid)
    await cloud.call("updateStoragePool", id=own_pool(cloud).uuid, tags="fast")
    volume = await data_disk(cloud, local)
    assert volume.pool_id is None
    with pytest.raises(NoPoolError, match="does not have the tags of the offering: fast"):
        await cloud.call("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)


@pytest_twisted.ensureDeferred
async def test_a_root_disk_is_moved_only_to_pools_with_the_tags_of_its_offering(cloud: SmallCloud) -> None:
    fast, other = (
        await create_pool(cloud, "fast", tags="fast"),
        await create_pool(cloud, "other", tags="fast"),
    )
    slow = await create_pool(cloud, "slow")
    template, _ = cloud.add_template()
    disk = await root_disk(
        cloud, template, await service_offering(cloud, 300, storagetype="shared", tags="fast")
    )
    assert disk.pool_id in (fast.id, other.id)
    await cloud.machines.stop(present(disk.vm_id))
    with pytest.raises(NoPoolError, match="does not have the tags of the offering: fast"):
        await cloud.job("migrateVolume", volumeid=disk.uuid, storageid=slow.uuid)
    target = other if disk.pool_id == fast.id else fast
    assert (await cloud.job("migrateVolume", volumeid=disk.uuid, storageid=target.uuid)).result_code == 0


async def almost_full(cloud: SmallCloud, name: str = "shared") -> tuple[StoragePool, int]:
    """Return a pool, and the GiB of the only volume that it takes more."""
    pool = await create_pool(cloud, name)
    [listed] = (await cloud.call("listStoragePools", id=pool.uuid))["storagepool"]
    total = int(listed["disksizetotal"])
    await cloud.call("updateConfiguration", name="storage.overprovisioning.factor", value="1")
    await cloud.call("updateConfiguration", name="pool.storage.capacity.disablethreshold", value="1")
    size = 1
    share = 1.5 * size * GIB / total
    await cloud.call(
        "updateConfiguration", name="pool.storage.allocated.capacity.disablethreshold", value=f"{share:.9f}"
    )
    return pool, size


@pytest_twisted.ensureDeferred
async def test_a_fat_disk_needs_free_space_and_not_overprovisioned(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, _ = cloud.add_template()
    pool = await create_pool(cloud)
    monkeypatch.setattr(pool_usage, "disk_usage", lambda _: DiskUsage(100 * GIB, 80 * GIB))
    fat = await disk_offering(cloud, "fat", disksize=6, storagetype="shared", provisioningtype="fat")
    small = await disk_offering(cloud, "small", disksize=5, storagetype="shared", provisioningtype="fat")
    sparse = await disk_offering(cloud, "sparse", disksize=6, storagetype="shared", provisioningtype="sparse")
    why = r"with a fat disk 86 GiB of it would be in use, the maximum is 85 GiB \(pool\.storage\.capacity"
    with pytest.raises(NoPoolError, match=why):
        await cloud.call("createVolume", name="data", diskofferingid=fat["id"])
    with pytest.raises(NoPoolError, match=why):
        await cloud.call("createVolume", name="data", diskofferingid=fat["id"], storageid=pool.uuid)
    of_vms = await service_offering(cloud, 300, storagetype="shared", provisioningtype="fat")
    wanted = await deployment_parameters(cloud, template, serviceofferingid=of_vms, rootdisksize=6)
    with pytest.raises(NoPoolError, match=why):
        await cloud.call("deployVirtualMachine", **wanted)
    for taken in (small, sparse):
        assert (await data_disk(cloud, taken)).pool_id == pool.id
    volume = await data_disk(cloud, await disk_offering(cloud, "local", disksize=6, provisioningtype="fat"))
    with pytest.raises(NoPoolError, match=why):
        await cloud.call("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)


@pytest_twisted.ensureDeferred
async def test_two_requests_at_once_do_not_both_get_the_last_place(cloud: SmallCloud) -> None:
    pool, size = await almost_full(cloud)
    calls = [
        Deferred.fromCoroutine(cloud.call("createVolume", name=name, size=size, storageid=pool.uuid))
        for name in ("one", "two")
    ]
    outcomes = await DeferredList(calls, consumeErrors=True)
    await settled(cloud.database)
    assert [type(result.value) for is_made, result in outcomes if not is_made] == [NoPoolError]
    assert len(cloud.database.run_now(volumes.of_pool, pool.id)) == 1


@pytest_twisted.ensureDeferred
async def test_a_volume_grows_only_into_space_that_its_pool_has(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, _ = await almost_full(cloud)
    volume = await create_volume(cloud, pool, size=1)
    monkeypatch.setattr(pool_usage, "disk_usage", lambda _: DiskUsage(100 * GIB, 80 * GIB))
    await limit_allocation(cloud, 0.03)
    why = r"storage pool shared has no space for it: its volumes would have 4 GiB, the maximum is 3 GiB"
    with pytest.raises(NoPoolError, match=why):
        await cloud.call("resizeVolume", id=volume.uuid, size=4)
    await cloud.call("updateStoragePool", id=pool.uuid, enabled="false")  # that is for new ones
    assert (await cloud.job("resizeVolume", id=volume.uuid, size=3)).result_code == 0
    monkeypatch.setattr(pool_usage, "disk_usage", lambda _: None)
    await limit_allocation(cloud, 1)
    with pytest.raises(NoPoolError, match="its directory cannot be used on this host"):
        await cloud.call("resizeVolume", id=volume.uuid, size=4)
    assert cloud.database.run_now(volumes.by_id, volume.id).size_bytes == 3 * GIB


@pytest_twisted.ensureDeferred
async def test_two_volumes_at_once_do_not_both_grow_into_the_last_space(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_pool(cloud)
    made = [await create_volume(cloud, pool, name=name, size=1) for name in ("one", "two")]
    monkeypatch.setattr(pool_usage, "disk_usage", lambda _: DiskUsage(100 * GIB, 0))
    await cloud.call("updateConfiguration", name="storage.overprovisioning.factor", value="1")
    await limit_allocation(cloud, 0.03)
    started, refused = [], []
    for volume in made:
        try:
            started.append(await cloud.call("resizeVolume", id=volume.uuid, size=2))
        except NoPoolError as error:  # the first job has taken the space already
            refused.append(str(error))
    jobs = [await cloud.jobs.wait(each["jobid"]) for each in started]
    refused += [str(job.result) for job in jobs if job.result_code != 0]
    assert ["has no space for it: its volumes would have 4 GiB" in why for why in refused] == [True]
    storage = await cloud.pools.of(pool.id)
    assert sorted(storage.sizes[volume.uuid] for volume in made) == [GIB, 2 * GIB]
    sizes = [cloud.database.run_now(volumes.by_id, volume.id).size_bytes for volume in made]
    assert sorted(size or 0 for size in sizes) == [GIB, 2 * GIB]


async def limit_allocation(cloud: SmallCloud, share: float) -> None:
    name = "pool.storage.allocated.capacity.disablethreshold"
    await cloud.call("updateConfiguration", name=name, value=str(share))


@pytest_twisted.ensureDeferred
async def test_a_move_whose_place_is_taken_meanwhile_leaves_the_volume(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, size = await almost_full(cloud)
    volume = await create_volume(cloud, own_pool(cloud))
    cloud.database.run_now(volumes.update, volume.id, size_bytes=size * GIB)
    storage = await cloud.pools.of(pool.id)
    copy = storage.import_volume

    async def copy_slowly(*arguments: Any) -> Path:
        path = await copy(*arguments)
        await create_volume(cloud, pool, name="other", size=size)
        return path

    monkeypatch.setattr(storage, "import_volume", copy_slowly)
    job = await cloud.job("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)
    assert "takes no volume" in job.result["errortext"]
    assert cloud.database.run_now(volumes.by_id, volume.id).pool_id is None
    assert not storage.volume_path(volume.uuid).exists()
    assert cloud.primary.volume_path(volume.uuid).exists()


@pytest_twisted.ensureDeferred
async def test_a_volume_of_a_snapshot_has_the_type_of_its_offering(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm = await deploy_running(cloud)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[root.uuid] = GIB
    snapshot = (await cloud.job("createSnapshot", volumeid=root.uuid)).instance_uuid
    offering = await disk_offering(cloud, "fat", provisioningtype="fat")
    volume = await data_disk(cloud, offering, snapshotid=snapshot)
    assert cloud.primary.provisioned[volume.uuid] is Provisioning.FAT
