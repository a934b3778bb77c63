# SPDX-License-Identifier: Apache-2.0
"""What a limit refuses: VMs, volumes, snapshots and templates of an account, and of domains."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.api.principal import Principal
from systemvm.management.resource_limits.errors import ResourceLimitError
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import accounts, schema, snapshots, templates, volumes
from systemvm.management.state.status import AccountType, VolumeState
from user_vms import deploy_stopped, deployment_parameters

GIB = 1 << 30
TEMPLATE = {"displaytext": "x", "format": "RAW", "hypervisor": "KVM", "url": "http://x.example.test/a"}
KINDS = {
    "user_vm": 0, "volume": 2, "snapshot": 3, "template": 4, "cpu": 8, "memory": 9, "primary_storage": 10,
}  # fmt: skip


async def limit(cloud: SmallCloud, kind: str, most: int, owner: Principal | None = None) -> None:
    owner = owner or cloud.user
    await cloud.call(
        "updateResourceLimit", resourcetype=KINDS[kind], max=most, account=owner.account.name,
        domainid=owner.domain.uuid,
    )  # fmt: skip


async def counts(cloud: SmallCloud, **which: Any) -> dict[str, int]:
    which = which or {"account": "users", "domainid": cloud.user.domain.uuid}
    answer = await cloud.call("updateResourceCount", **which)
    return {each["resourcetypename"]: each["resourcecount"] for each in answer["resourcecount"]}


async def refusal(cloud: SmallCloud, command: str, **parameters: Any) -> str:
    with pytest.raises(ResourceLimitError) as refused:
        await cloud.call(command, cloud.user, **parameters)
    error = as_api_error(refused.value, "request-1")
    assert error.code is ErrorCode.RESOURCE_ALLOCATION
    return error.message


async def deployment(cloud: SmallCloud) -> dict[str, Any]:
    template, _ = cloud.add_template(owner=cloud.user)
    return await deployment_parameters(cloud, template=template)


@pytest_twisted.ensureDeferred
async def test_a_vm_too_many_is_refused_with_cloudstacks_text(cloud: SmallCloud) -> None:
    parameters = await deployment(cloud)
    await limit(cloud, "user_vm", 1)
    await cloud.call("deployVirtualMachine", cloud.user, **parameters)
    assert await refusal(cloud, "deployVirtualMachine", **parameters) == (
        "Maximum amount of resources of Type = 'user_vm', tag = 'null' for Account Name = users in Domain Id"
        " = 1 is exceeded: Account Resource Limit = 1, Current Account Resource Amount = 1, Current Account"
        " Resource Reservation = 0, Requested Resource Amount = 1."
    )
    assert (await counts(cloud))["user_vm"] == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["cpu", "memory", "volume", "primary_storage"])
async def test_what_a_vm_needs_is_limited(cloud: SmallCloud, kind: str) -> None:
    parameters = await deployment(cloud) | {"rootdisksize": 8}
    await limit(cloud, kind, 0)
    assert f"Type = '{kind}'" in await refusal(cloud, "deployVirtualMachine", **parameters)
    await limit(cloud, kind, 4096)
    await cloud.call("deployVirtualMachine", cloud.user, **parameters)


@pytest_twisted.ensureDeferred
async def test_a_limit_is_reached_exactly_and_not_passed(cloud: SmallCloud) -> None:
    await limit(cloud, "volume", 2)
    await limit(cloud, "primary_storage", 5)
    await cloud.call("createVolume", cloud.user, size=2)
    await cloud.call("createVolume", cloud.user, size=3)
    assert "Type = 'volume'" in await refusal(cloud, "createVolume", size=1)
    await limit(cloud, "volume", -1)
    assert (
        "Account Resource Limit = (5.00 GB) 5368709120, Current Account Resource Amount = (5.00 GB)"
        " 5368709120" in await refusal(cloud, "createVolume", size=1)
    )


@pytest_twisted.ensureDeferred
async def test_a_volume_grows_within_the_limit_only(cloud: SmallCloud) -> None:
    await limit(cloud, "primary_storage", 5)
    started = await cloud.call("createVolume", cloud.user, size=3)
    assert "Requested Resource Amount = (3.00 GB)" in await refusal(
        cloud, "resizeVolume", id=started["id"], size=6
    )
    await cloud.call("resizeVolume", cloud.user, id=started["id"], size=5)


@pytest_twisted.ensureDeferred
async def test_the_limit_is_checked_again_when_a_disk_grows(cloud: SmallCloud) -> None:
    """Several calls can pass before the first disk has grown."""
    job = await cloud.job("createVolume", cloud.user, size=1, name="a")
    volume = cloud.database.run_now(volumes.by_uuid, job.result["volume"]["id"])
    cloud.primary.sizes[volume.uuid] = GIB
    await limit(cloud, "primary_storage", 4)
    with pytest.raises(ResourceLimitError):
        await cloud.volumes.resize(volume.id, 5 * GIB, cloud.storage_pools.usage_of)
    assert cloud.primary.sizes[volume.uuid] == GIB


@pytest_twisted.ensureDeferred
async def test_a_disk_that_cannot_grow_takes_nothing_of_the_limit(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await cloud.job("createVolume", cloud.user, size=1, name="a")
    volume = cloud.database.run_now(volumes.by_uuid, job.result["volume"]["id"])
    cloud.primary.sizes[volume.uuid] = GIB
    await limit(cloud, "primary_storage", 4)
    noted: list[int] = []

    async def fail(volume_uuid: str, size_bytes: int) -> None:
        noted.append((await counts(cloud))["primary_storage"])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cloud.primary, "resize_volume", fail)
    with pytest.raises(OSError, match="No space"):
        await cloud.volumes.resize(volume.id, 4 * GIB, cloud.storage_pools.usage_of)
    assert (noted, (await counts(cloud))["primary_storage"]) == ([4 * GIB], GIB)


@pytest_twisted.ensureDeferred
async def test_hidden_images_and_copies_of_snapshots_do_not_count(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    run = cloud.database.run_now
    for kind in templates.HIDDEN_TYPES:
        template, _ = cloud.add_template(owner=cloud.user)
        run(templates.update, template.id, type=kind)
    vm = await deploy_stopped(cloud, cloud.user)
    root = present(run(volumes.root_of, vm.id))
    run(volumes.update, root.id, state=VolumeState.READY, host_id=cloud.host.id)
    before = await counts(cloud)
    taken = await cloud.snapshots.create(NewSnapshot(root.id, None, None))
    copy = await cloud.snapshots.create(NewSnapshot(root.id, None, None))
    run(snapshots.update, copy.id, copy_of=taken.id)
    after = await counts(cloud)
    visible = run(templates.rows.all, schema.templates.c.account_id == cloud.user.account.id)
    assert after["snapshot"] - before["snapshot"] == 1
    assert after["template"] == len([each for each in visible if not each.is_hidden])


@pytest_twisted.ensureDeferred
async def test_templates_isos_and_uploads_are_limited_together(cloud: SmallCloud) -> None:
    await limit(cloud, "template", 1)
    zone = cloud.zone.uuid
    await cloud.call("registerTemplate", cloud.user, name="a", zoneid=zone, **TEMPLATE)
    assert "Type = 'template'" in await refusal(cloud, "registerTemplate", name="b", zoneid=zone, **TEMPLATE)
    url = "http://x.example.test/b.iso"
    assert "Type = 'template'" in await refusal(cloud, "registerIso", name="b", zoneid=zone, url=url)
    await cloud.call("registerIso", name="b", zoneid=zone, url=url)  # an administrator has no limit


@pytest_twisted.ensureDeferred
async def test_snapshots_are_limited(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    template, _ = cloud.add_template(owner=cloud.user)
    vm = await deploy_stopped(cloud, cloud.user, template)
    await cloud.machines.start(vm.id)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    cloud.primary.sizes[root.uuid] = GIB
    await limit(cloud, "snapshot", 1)
    await cloud.job("createSnapshot", cloud.user, volumeid=root.uuid)
    assert "Type = 'snapshot'" in await refusal(cloud, "createSnapshot", volumeid=root.uuid)
    assert (await counts(cloud))["snapshot"] == 1


@pytest_twisted.ensureDeferred
async def test_a_destroyed_vm_makes_room_and_is_checked_when_it_is_recovered(cloud: SmallCloud) -> None:
    parameters = await deployment(cloud)
    await limit(cloud, "user_vm", 1)
    first = (await cloud.call("deployVirtualMachine", cloud.user, **parameters, startvm="false"))["id"]
    await cloud.job("destroyVirtualMachine", cloud.user, id=first)
    assert (await counts(cloud))["user_vm"] == 0
    second = (await cloud.call("deployVirtualMachine", cloud.user, **parameters, startvm="false"))["id"]
    with pytest.raises(ResourceLimitError, match="Type = 'user_vm'"):  # whoever recovers it
        await cloud.call("recoverVirtualMachine", id=first)
    await cloud.job("destroyVirtualMachine", cloud.user, id=second)
    answer = await cloud.call("recoverVirtualMachine", id=first)
    assert answer["virtualmachine"]["state"] == "Stopped"


@pytest_twisted.ensureDeferred
async def test_the_default_holds_for_accounts_without_a_limit(cloud: SmallCloud) -> None:
    parameters = await deployment(cloud)
    await cloud.call("updateConfiguration", name="max.account.user.vms", value="0")
    assert "Account Resource Limit = 0" in await refusal(cloud, "deployVirtualMachine", **parameters)
    await limit(cloud, "user_vm", 1)
    await cloud.call("deployVirtualMachine", cloud.user, **parameters)
    which = {"account": "users", "domainid": cloud.user.domain.uuid, "resourcetype": 0}
    answer = await cloud.call("updateResourceLimit", usedefault="true", **which)
    assert (answer["resourcelimit"]["max"], answer["resourcelimit"]["isdefault"]) == (0, True)


@pytest_twisted.ensureDeferred
async def test_counts_are_of_what_is_there(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template(owner=cloud.user)
    vm = await deploy_stopped(cloud, cloud.user, template)
    await cloud.call("createVolume", cloud.user, size=2)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    root_bytes = root.size_bytes or ref.virtual_size_bytes or 0
    found = await counts(cloud)
    assert found == {
        "user_vm": 1, "volume": 2, "snapshot": 0, "template": 1, "network": 0, "cpu": vm.vcpus,
        "memory": vm.memory_mib,
        "primary_storage": 2 * GIB + root_bytes, "secondary_storage": ref.physical_size_bytes or 0,
    }  # fmt: skip
    of_domain = await counts(cloud, domainid=cloud.user.domain.uuid, resourcetype=2)
    assert of_domain == {"volume": 2}


@pytest_twisted.ensureDeferred
async def test_domains_have_limits_that_hold_for_all_accounts_beneath(cloud: SmallCloud) -> None:
    run = cloud.database.run_now
    outer = run(accounts.create_domain, "outer", "/outer", cloud.user.domain.id)
    inner = run(accounts.create_domain, "inner", "/outer/inner", outer.id)
    owners = []
    for name, domain in (("ann", outer), ("bob", inner)):
        account = run(accounts.create_account, name, AccountType.USER, domain.id)
        user = run(lambda connection, *of: accounts.create_user(connection, *of), name, account, None)
        owners.append(Principal(user, account, domain))
    ann, bob = owners
    await cloud.call("updateResourceLimit", resourcetype=2, domainid=outer.uuid, max=2)
    with pytest.raises(ApiError, match="maximum allowed resource limit 2 for volume"):
        await cloud.call("updateResourceLimit", resourcetype=2, domainid=inner.uuid, max=3)
    await cloud.call("updateResourceLimit", resourcetype=2, domainid=inner.uuid, max=1)
    await cloud.call("createVolume", bob, size=1)
    with pytest.raises(ResourceLimitError, match=f"Domain Id = {inner.uuid} is exceeded"):
        await cloud.call("createVolume", bob, size=1)
    await cloud.call("createVolume", ann, size=1)
    with pytest.raises(ResourceLimitError, match=f"Domain Id = {outer.uuid} is exceeded"):
        await cloud.call("createVolume", ann, size=1)
    await cloud.call("createVolume", cloud.user, size=1)  # of the root domain
    [found] = (await cloud.call("listResourceLimits", domainid=inner.uuid, resourcetype=2))["resourcelimit"]
    assert (found["max"], found["isdefault"], "account" in found) == (1, False, False)
    assert await counts(cloud, domainid=outer.uuid, resourcetype=2) == {"volume": 2}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", list(KINDS))
async def test_administrators_have_no_limit(cloud: SmallCloud, kind: str) -> None:
    await cloud.call("updateConfiguration", name="max.account.volumes", value="0")
    await cloud.call("createVolume", size=1)
    with pytest.raises(ApiError, match="is an administrator's"):
        await limit(cloud, kind, 5, cloud.admin)


@pytest_twisted.ensureDeferred
async def test_users_neither_change_limits_nor_count_others(cloud: SmallCloud) -> None:
    for command, more in (("updateResourceLimit", {"resourcetype": 0}), ("updateResourceCount", {})):
        with pytest.raises(ApiError, match="is not available"):
            await cloud.call(command, cloud.user, domainid=cloud.user.domain.uuid, **more)
