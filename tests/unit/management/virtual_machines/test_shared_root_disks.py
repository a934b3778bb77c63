# SPDX-License-Identifier: Apache-2.0
"""Root disks in storage pools: the pool is chosen by its room, and has one copy of each template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from present import present
from settling import settled
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from systemvm.management.state import instances, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.templates import Template
from systemvm.management.state.volumes import Volume
from systemvm.management.templates.copies import TemplateCopies
from systemvm.service.errors import FailureCode, SystemVmError
from user_vms import deployment_parameters


async def parameters(cloud: SmallCloud, template: Template, **more: Any) -> dict[str, Any]:
    listed = (await cloud.call("listServiceOfferings", name="shared")).get("serviceoffering")
    if not listed:
        created = await cloud.call(
            "createServiceOffering", name="shared", cpunumber=1, memory=300, storagetype="shared"
        )
        listed = [created["serviceoffering"]]
    assert listed[0]["storagetype"] == "shared"
    return await deployment_parameters(cloud, template, **{"serviceofferingid": listed[0]["id"]} | more)


async def deploy(cloud: SmallCloud, template: Template, **more: Any) -> tuple[Instance, Volume]:
    job = await cloud.job("deployVirtualMachine", **await parameters(cloud, template, **more))
    assert job.result_code == 0, job.result
    vm = cloud.database.run_now(instances.by_uuid, job.result["virtualmachine"]["id"])
    return vm, present(cloud.database.run_now(volumes.root_of, vm.id))


def copies_in(pool: StoragePool, template: Template) -> list[Path]:
    return list(Path(pool.path).glob(f"{template.uuid}.*"))


@pytest_twisted.ensureDeferred
async def test_a_template_is_copied_once_to_a_pool_and_removed_with_its_last_clone(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    template, _ = cloud.add_template()
    (first, disk), (second, other) = await deploy(cloud, template), await deploy(cloud, template)
    storage = await cloud.pools.of(pool.id)
    assert len(storage.copied) == 1
    assert cloud.primary.copied == []
    [copy] = copies_in(pool, template)
    assert {storage.clones[each.uuid][0] for each in (disk, other)} == {copy}
    assert present(cloud.hypervisor.specs[first.instance_name].disk).path.parent == copy.parent
    copies = TemplateCopies(cloud.database, cloud.pools, host_id=cloud.host.id)
    await cloud.templates.delete(template.id, forced=True)
    for vm in (first, second):
        await copies.remove_unused()
        assert copies_in(pool, template) == [copy], "a clone needs it"
        await cloud.machines.destroy(vm.id, expunge=True)
    await copies.remove_unused()
    assert copies_in(pool, template) == []


@pytest_twisted.ensureDeferred
async def test_the_pool_with_the_most_room_gets_the_disk(cloud: SmallCloud) -> None:
    full, empty = await create_pool(cloud, "full"), await create_pool(cloud, "empty")
    await create_volume(cloud, full, size=10)
    template, _ = cloud.add_template()
    _, disk = await deploy(cloud, template)
    assert disk.pool_id == empty.id
    await create_volume(cloud, empty, size=20)
    _, disk = await deploy(cloud, template)
    assert disk.pool_id == full.id


@pytest_twisted.ensureDeferred
async def test_without_a_pool_that_takes_the_disk_no_vm_is_made(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    given = await parameters(cloud, template)
    with pytest.raises(SystemVmError, match="no shared storage pool takes the volume: there is none"):
        await cloud.call("deployVirtualMachine", **given)
    pool = await create_pool(cloud)
    await create_pool(cloud, "of-host", scope="host", hostid=cloud.host.uuid)
    await cloud.call("updateStoragePool", id=pool.uuid, enabled=False)
    with pytest.raises(SystemVmError, match="no shared storage pool takes the volume") as refused:
        await cloud.call("deployVirtualMachine", **given)
    assert refused.value.message.endswith("takes the volume: shared: it is Disabled")
    assert refused.value.code is FailureCode.NO_CAPACITY
    assert cloud.database.run_now(instances.list_user) == []


@pytest_twisted.ensureDeferred
async def test_a_deleted_template_is_first_copied_to_the_pools_that_need_it(
    cloud: SmallCloud,
) -> None:
    pool = await create_pool(cloud)
    template, _ = cloud.add_template()
    vm, disk = await deploy(cloud, template, startvm="false")
    assert copies_in(pool, template) == []
    await cloud.templates.delete(template.id, forced=True)
    assert len(copies_in(pool, template)) == 1
    await cloud.machines.start(vm.id)
    assert (Path(pool.path) / f"{disk.uuid}.qcow2").exists()


@pytest_twisted.ensureDeferred
async def test_a_template_is_prepared_in_each_pool_or_in_the_one_that_is_named(cloud: SmallCloud) -> None:
    first, second = await create_pool(cloud, "one"), await create_pool(cloud, "two")
    template, _ = cloud.add_template()
    prepare = {"zoneid": cloud.zone.uuid, "templateid": template.uuid}
    await cloud.call("prepareTemplate", **prepare, storageid=first.uuid)
    await settled(cloud.database)
    assert (len(copies_in(first, template)), len(copies_in(second, template))) == (1, 0)
    await cloud.call("prepareTemplate", **prepare)
    await settled(cloud.database)
    assert (len(copies_in(first, template)), len(copies_in(second, template))) == (1, 1)
    assert len(cloud.primary.copied) == 1
