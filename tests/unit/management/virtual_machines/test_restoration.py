# SPDX-License-Identifier: Apache-2.0
"""The root disk of a VM is made anew: from which image, when, and what stays of the one before."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from api_requests import refusal
from present import present
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from snapshot_store import SnapshotStore
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.primary import pool_usage
from systemvm.management.primary.pool_usage import DiskUsage
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.resource_limits.errors import ResourceLimitError
from systemvm.management.state import (
    machine_passwords,
    resource_counts,
    storage_pools,
    templates,
    volumes,
)
from systemvm.management.state.instances import Instance
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import InstanceState, VolumeState
from systemvm.management.state.volumes import Volume
from systemvm.management.virtual_machines.errors import MachineStateError, NotDeployableError
from systemvm.management.volumes.errors import NoPoolError
from systemvm.wire.storage import DownloadState, ImageFormat
from user_vms import add_addresses, deploy_by_api, deploy_running, deploy_stopped, root_of

RESTORE = "restoreVirtualMachine"
GIB = 1 << 30


def has_file(volume: Volume) -> bool:
    return Path(present(volume.path)).exists()


def files(cloud: SmallCloud) -> set[str]:
    return {path.stem for path in cloud.primary.directory.glob("*-*.qcow2")}


async def restored(cloud: SmallCloud, vm: Instance, **more: Any) -> dict[str, Any]:
    job = await cloud.job(RESTORE, virtualmachineid=vm.uuid, **more)
    assert job.result_code == 0, job.result
    answer: dict[str, Any] = job.result["virtualmachine"]
    return answer


@pytest_twisted.ensureDeferred
async def test_a_running_vm_has_a_new_root_and_runs_again(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    before = root_of(cloud, vm)
    answer = await restored(cloud, vm)
    after = root_of(cloud, vm)
    assert answer["state"] == "Running"
    assert (after.name, after.state, after.template_id) == (
        before.name,
        VolumeState.READY,
        before.template_id,
    )
    assert after.uuid != before.uuid
    assert present(cloud.hypervisor.specs[vm.instance_name].disk).path == Path(present(after.path))
    assert has_file(after)
    gone = cloud.database.run_now(volumes.by_id, before.id)
    assert gone.removed is not None
    assert not has_file(before)
    listed = (await cloud.call("listVolumes", virtualmachineid=vm.uuid))["volume"]
    assert [each["id"] for each in listed] == [after.uuid]
    counts = cloud.database.run_now(resource_counts.of_accounts, [vm.account_id])[vm.account_id]
    assert (counts[ResourceType.volume], counts[ResourceType.primary_storage]) == (1, 1 << 20)
    told = (await cloud.call("listEvents", type="VM.RESTORE"))["event"]
    assert [each["description"] for each in told] == [f"{vm.name} is restored from tiny"]


@pytest_twisted.ensureDeferred
async def test_a_stopped_vm_stays_stopped(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    before = root_of(cloud, vm)
    assert (await restored(cloud, vm, expunge="true"))["state"] == "Stopped"
    assert root_of(cloud, vm).uuid != before.uuid
    assert files(cloud) & {before.uuid, root_of(cloud, vm).uuid} == {root_of(cloud, vm).uuid}
    assert vm.instance_name not in {
        name for name, each in cloud.hypervisor.statuses.items() if each.state.alive
    }


@pytest_twisted.ensureDeferred
async def test_a_vm_that_never_ran_is_restored(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    assert (await restored(cloud, vm))["state"] == "Stopped"
    assert root_of(cloud, vm).state is VolumeState.READY
    await cloud.machines.start(vm.id)


@pytest_twisted.ensureDeferred
async def test_another_template_that_the_caller_can_use(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud, cloud.user, cloud.add_template(owner=cloud.user)[0])
    other, _ = cloud.add_template(owner=cloud.user, name="other")
    job = await cloud.job(RESTORE, cloud.user, virtualmachineid=vm.uuid, templateid=other.uuid)
    assert job.result["virtualmachine"]["templateid"] == other.uuid
    assert (root_of(cloud, vm).template_id, cloud.instance(vm.id).template_id) == (other.id, other.id)
    foreign, _ = cloud.add_template(name="of the administrator")
    with pytest.raises(ApiError, match="must not use this template"):
        await cloud.call(RESTORE, cloud.user, virtualmachineid=vm.uuid, templateid=foreign.uuid)


@pytest_twisted.ensureDeferred
async def test_an_image_that_a_vm_cannot_have_is_refused_before_it_is_stopped(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    before = root_of(cloud, vm)
    waiting, _ = cloud.add_template(state=DownloadState.NOT_DOWNLOADED, name="waiting")
    with pytest.raises(NotDeployableError, match=rf"template {waiting.uuid} isn't available in the zone"):
        await cloud.call(RESTORE, virtualmachineid=vm.uuid, templateid=waiting.uuid)
    iso, _ = cloud.add_template(name="cd", format=ImageFormat.ISO, bootable=True)
    error = await refusal(cloud, RESTORE, virtualmachineid=vm.uuid, templateid=iso.uuid)
    assert error.message == "Invalid template id provided to restore the VM"
    refused = {"diskofferingid": "1", "rootdisksize": "1", "details": "1", "expunge": "false"}
    for name, value in refused.items():
        error = await refusal(cloud, RESTORE, virtualmachineid=vm.uuid, **{name: value})
        assert error.code == ErrorCode.PARAMETER
        assert name in error.message
    assert root_of(cloud, vm) == before
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_vm_of_an_iso_gets_an_empty_disk(cloud: SmallCloud) -> None:
    iso, _ = cloud.add_template(name="cd", format=ImageFormat.ISO, bootable=True)
    other, _ = cloud.add_template(name="dvd", format=ImageFormat.ISO, bootable=True)
    vm = await deploy_by_api(cloud, iso, size=3)
    await restored(cloud, vm)
    assert (root_of(cloud, vm).size_bytes, cloud.instance(vm.id).iso_id) == (3 * GIB, iso.id)
    assert cloud.primary.sizes[root_of(cloud, vm).uuid] == 3 * GIB
    await restored(cloud, vm, templateid=other.uuid)
    assert cloud.instance(vm.id).iso_id == other.id
    template, _ = cloud.add_template()
    error = await refusal(cloud, RESTORE, virtualmachineid=vm.uuid, templateid=template.uuid)
    assert error.message.startswith("VM has been created using an ISO therefore it can not be re-installed")


@pytest.mark.parametrize("state", [InstanceState.STARTING, InstanceState.DESTROYED, InstanceState.ERROR])
@pytest_twisted.ensureDeferred
async def test_a_vm_in_another_state_is_refused(cloud: SmallCloud, state: InstanceState) -> None:
    vm = cloud.update_instance(await deploy_stopped(cloud), state=state)
    expected = f"currently in {state.value} state, restore vm can only execute when VM in Running or Stopped"
    with pytest.raises(MachineStateError, match=expected):
        await cloud.call(RESTORE, virtualmachineid=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_another_accounts_vm_and_a_disabled_owners_are_refused(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    error = await refusal(cloud, RESTORE, cloud.user, virtualmachineid=vm.uuid)
    assert error.code == ErrorCode.UNAUTHORIZED
    of_user = await deploy_stopped(cloud, cloud.user)
    await cloud.job("disableAccount", id=cloud.user.account.uuid, lock="false")
    with pytest.raises(MachineStateError, match=r"owner of .* is disabled"):
        await cloud.call(RESTORE, virtualmachineid=of_user.uuid)


@pytest.mark.parametrize("command", [RESTORE, "changeServiceForVirtualMachine"])
@pytest_twisted.ensureDeferred
async def test_a_vm_of_another_hypervisors_host_is_refused(cloud: SmallCloud, command: str) -> None:
    vm = cloud.update_instance(await deploy_stopped(cloud), hypervisor="VMware", template_id=None)
    offering = (await cloud.call("listServiceOfferings", name="large"))["serviceoffering"][0]["id"]
    named = (
        {"virtualmachineid": vm.uuid}
        if command == RESTORE
        else {"id": vm.uuid, "serviceofferingid": offering}
    )
    with pytest.raises(MachineStateError, match="runs on a VMware host, which this cloud does not control"):
        await cloud.call(command, **named)


@pytest_twisted.ensureDeferred
async def test_the_room_of_the_pool_is_checked_before_the_vm_is_stopped(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_pool(cloud)
    vm = await deploy_stopped(cloud)
    cloud.database.run_now(volumes.update, root_of(cloud, vm).id, pool_id=pool.id)
    await cloud.machines.start(vm.id)
    monkeypatch.setattr(pool_usage, "disk_usage", lambda _: DiskUsage(100 << 30, 99 << 30))
    with pytest.raises(NoPoolError, match=r"cannot be restored: .* of it are in use"):
        await cloud.call(RESTORE, virtualmachineid=vm.uuid)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_disk_that_cannot_be_made_leaves_the_vm_running_with_its_own(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    before, there = root_of(cloud, vm), files(cloud)
    other, _ = cloud.add_template(name="other")
    cloud.primary.fails_with = PrimaryStorageError("disk is full", "make room")
    job = await cloud.job(RESTORE, virtualmachineid=vm.uuid, templateid=other.uuid)
    assert "disk is full" in job.result["errortext"]
    assert root_of(cloud, vm) == before
    assert (cloud.instance(vm.id).state, files(cloud)) == (InstanceState.RUNNING, there)


@pytest_twisted.ensureDeferred
async def test_a_vm_whose_disk_was_not_replaced_after_its_stop_is_started_again(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    before, there = root_of(cloud, vm), files(cloud)
    other, _ = cloud.add_template(name="other")
    stop = cloud.hypervisor.stop

    async def stop_and_delete(name: str, **more: Any) -> None:
        cloud.database.run_now(templates.request_deletion, other.id)
        await stop(name, **more)

    monkeypatch.setattr(cloud.hypervisor, "stop", stop_and_delete)
    job = await cloud.job(RESTORE, virtualmachineid=vm.uuid, templateid=other.uuid)
    assert "Template other was deleted" in job.result["errortext"]
    assert root_of(cloud, vm) == before
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    assert files(cloud) - there == {other.uuid}, "the copy of the template stays until the sweep of copies"


@pytest_twisted.ensureDeferred
async def test_a_resized_root_keeps_its_size_and_a_larger_template_counts(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud, cloud.user)
    cloud.database.run_now(volumes.update, root_of(cloud, vm).id, size_bytes=2 * GIB)
    await restored(cloud, vm)
    assert root_of(cloud, vm).size_bytes == 2 * GIB
    large, ref = cloud.add_template(name="large", public=True)
    cloud.database.run_now(templates.update_store_ref, ref.id, virtual_size_bytes=5 * GIB)
    await cloud.call(
        "updateResourceLimit", account=cloud.user.account.name, domainid=cloud.user.domain.uuid,
        resourcetype=int(ResourceType.primary_storage), max=4,
    )  # fmt: skip
    with pytest.raises(ResourceLimitError, match="primary_storage"):
        await cloud.call(RESTORE, cloud.user, virtualmachineid=vm.uuid, templateid=large.uuid)
    await cloud.call(
        "updateResourceLimit", account=cloud.user.account.name, domainid=cloud.user.domain.uuid,
        resourcetype=int(ResourceType.primary_storage), max=5,
    )  # fmt: skip
    await restored(cloud, vm, templateid=large.uuid)
    assert root_of(cloud, vm).size_bytes == 5 * GIB


@pytest_twisted.ensureDeferred
async def test_snapshots_and_data_volumes_stay(cloud: SmallCloud) -> None:
    SnapshotStore.of(cloud)
    vm = await deploy_running(cloud)
    own = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    data = await create_volume(cloud, own)
    await cloud.job("attachVolume", id=data.uuid, virtualmachineid=vm.uuid)
    await cloud.job("createSnapshot", volumeid=root_of(cloud, vm).uuid)
    await cloud.call(
        "createSnapshotPolicy", volumeid=root_of(cloud, vm).uuid, intervaltype="daily", schedule="30:02",
        timezone="Europe/Berlin", maxsnaps="2",
    )  # fmt: skip
    await restored(cloud, vm)
    policies = await cloud.call("listSnapshotPolicies", volumeid=root_of(cloud, vm).uuid)
    assert policies["count"] == 1, "it goes on with the new disk"
    [snapshot] = (await cloud.call("listSnapshots"))["snapshot"]
    assert snapshot["state"] == "BackedUp"
    assert [each.uuid for each in cloud.database.run_now(volumes.data_of, vm.id)] == [data.uuid]
    made = await cloud.job("createVolume", name="again", snapshotid=snapshot["id"])
    assert made.result_code == 0


@pytest_twisted.ensureDeferred
async def test_a_pool_that_does_not_delete_the_disk_of_before_is_asked_again(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    before = root_of(cloud, vm)

    async def fail(uuid: str) -> None:
        raise PrimaryStorageError("pool does not answer")

    with monkeypatch.context() as hanging:
        hanging.setattr(cloud.primary, "delete_volume", fail)
        await restored(cloud, vm)
    left = cloud.database.run_now(volumes.by_id, before.id)
    assert (left.state, left.vm_id, left.removed) == (VolumeState.DESTROYED, None, None)
    await cloud.volumes.finish_deletions()
    assert cloud.database.run_now(volumes.by_id, before.id).removed is not None
    assert not has_file(before)


@pytest_twisted.ensureDeferred
async def test_a_guest_gets_a_new_password_if_its_template_takes_one(cloud: SmallCloud) -> None:
    await add_addresses(cloud)
    template, _ = cloud.add_template(password_enabled=True)
    vm = await deploy_by_api(cloud, template)
    first = present(cloud.database.run_now(machine_passwords.of_vm, vm.id))
    started = await cloud.call(RESTORE, virtualmachineid=vm.uuid)
    await cloud.jobs.wait(started["jobid"])
    answer = (await cloud.call("queryAsyncJobResult", jobid=started["jobid"]))["jobresult"]["virtualmachine"]
    second = present(cloud.database.run_now(machine_passwords.of_vm, vm.id))
    assert second.uuid != first.uuid
    assert cloud.seal.open(present(second.sealed)) == answer["password"]
    other, _ = cloud.add_template(name="other")
    assert "password" not in await restored(cloud, vm, templateid=other.uuid)


@pytest_twisted.ensureDeferred
async def test_two_restorations_at_once_leave_one_root(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    arguments = {"id": vm.id, "image": vm.template_id, "start": True}
    started = [
        await cloud.jobs.submit(
            RESTORE,
            arguments | {"root": str(uuid.uuid4())},
            account_id=cloud.admin.account.id,
            domain_id=cloud.admin.domain.id,
            user_id=cloud.admin.user.id,
            request_id="request-1",
        )
        for _ in range(2)
    ]
    codes = [(await cloud.jobs.wait(each.uuid)).result_code for each in started]
    assert codes == [0, 0]
    root = root_of(cloud, vm)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    present_rows = [row for row in cloud.database.run_now(volumes.rows.all) if row.removed is None]
    assert present_rows == [root]
