# SPDX-License-Identifier: Apache-2.0
"""Data volumes as the API creates, attaches, resizes and deletes them, and what a killed daemon leaves."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

from present import present
from settling import settled
from small_cloud import SmallCloud
from small_cloud.machine_drives import FakeDisks
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, VolumeState
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes import transitions
from systemvm.management.volumes.errors import VolumeStateError
from user_vms import deploy_running, deploy_stopped

GIB = 1 << 30


async def create(cloud: SmallCloud, **more: Any) -> Volume:
    job = await cloud.job("createVolume", **{"name": "data", "size": 2} | more)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(volumes.by_uuid, job.result["volume"]["id"])


async def attach(cloud: SmallCloud, volume: Volume, vm: Instance, **more: Any) -> dict[str, Any]:
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid, **more)
    assert job.result_code == 0, job.result
    return dict(job.result["volume"])


def row(cloud: SmallCloud, volume: Volume) -> Volume:
    return cloud.database.run_now(volumes.by_id, volume.id)


async def refusal(cloud: SmallCloud, command: str, **parameters: Any) -> tuple[str, str]:
    """Return text and hint of a call that is refused, at once or by its job."""
    try:
        job = await cloud.job(command, **parameters)
    except ApiError as error:
        return error.message, error.hint
    assert job.result_code == ErrorCode.PARAMETER, job.result
    return job.result["errortext"], job.result["hint"]


@pytest_twisted.ensureDeferred
async def test_a_volume_is_created_attached_to_a_running_vm_and_deleted(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    assert volume.state is VolumeState.READY
    assert cloud.primary.volume_path(volume.uuid).exists()
    answer = await attach(cloud, volume, vm)
    assert (answer["type"], answer["deviceid"], answer["virtualmachineid"]) == ("DATADISK", 1, vm.uuid)
    [shown] = (await cloud.call("listVolumes", id=volume.uuid))["volume"]
    assert shown["attached"] >= shown["created"]
    disks = cloud.hypervisor.disks(vm.instance_name)
    assert list(disks.attached) == [volume.uuid]
    second = await create(cloud, name="more")
    assert (await attach(cloud, second, vm, deviceid=5))["deviceid"] == 5
    listed = await cloud.call("listVolumes", type="DATADISK", virtualmachineid=vm.uuid)
    assert [each["name"] for each in listed["volume"]] == ["data", "more"]

    job = await cloud.job("detachVolume", virtualmachineid=vm.uuid, deviceid="5")
    assert job.result_code == 0, job.result
    assert list(disks.attached) == [volume.uuid]
    [shown] = (await cloud.call("listVolumes", id=second.uuid))["volume"]
    assert "attached" not in shown
    assert (await cloud.call("deleteVolume", id=second.uuid)) == {"success": True}
    assert not cloud.primary.volume_path(second.uuid).exists()
    assert row(cloud, second).removed is not None


@pytest_twisted.ensureDeferred
async def test_a_stopped_vm_starts_with_its_volumes(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    volume = await create(cloud)
    await attach(cloud, volume, vm, deviceid=4)
    await cloud.machines.start(vm.id)
    [disk] = cloud.hypervisor.specs[vm.instance_name].data_disks
    assert (disk.uuid, disk.unit, disk.path) == (volume.uuid, 4, cloud.primary.volume_path(volume.uuid))


@pytest_twisted.ensureDeferred
async def test_a_volume_that_the_machine_does_not_take_is_detached(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    cloud.hypervisor.fails_with = HypervisorError("QEMU rejected device_add")
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert row(cloud, volume).vm_id is None
    monkeypatch.setattr(FakeDisks, "has", lambda *_: defer.fail(HypervisorError("QEMU does not answer")))
    await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert row(cloud, volume).vm_id is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answers", [True, False])
async def test_a_volume_stays_attached_when_it_cannot_be_attached_again(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    """The machine has it, whether it can say so or not."""
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    await attach(cloud, volume, vm)
    cloud.hypervisor.fails_with = error = HypervisorError("QEMU does not answer")
    if not answers:
        monkeypatch.setattr(FakeDisks, "has", lambda *_: defer.fail(error))
    job = await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert row(cloud, volume).vm_id == vm.id


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_ends_while_it_attaches_a_volume_leaves_the_rest_to_the_next(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command can have reached the machine: no other VM must get the volume meanwhile."""
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    unanswered: defer.Deferred[None] = defer.Deferred()
    monkeypatch.setattr(FakeDisks, "attach", lambda *_: unanswered)
    await cloud.call("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    await settled(cloud.database)
    cloud.jobs.stop()
    assert unanswered.called
    await settled(cloud.database)
    assert row(cloud, volume).vm_id == vm.id


@pytest_twisted.ensureDeferred
async def test_a_volume_that_the_machine_keeps_stays_attached(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    await attach(cloud, volume, vm)
    cloud.hypervisor.fails_with = HypervisorError("QEMU did not send DEVICE_DELETED")
    job = await cloud.job("detachVolume", id=volume.uuid)
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert row(cloud, volume).vm_id == vm.id


@pytest_twisted.ensureDeferred
async def test_a_volume_becomes_larger_and_never_smaller(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    job = await cloud.job("resizeVolume", id=volume.uuid, size=3)
    assert job.result["volume"]["size"] == 3 * GIB
    assert cloud.primary.sizes[volume.uuid] == 3 * GIB
    await attach(cloud, volume, vm)
    await cloud.job("resizeVolume", id=volume.uuid, size=4)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    await cloud.job("resizeVolume", id=root.uuid, size=5)
    sizes = cloud.hypervisor.disks(vm.instance_name).sizes
    assert {name[:4]: size for name, size in sizes.items()} == {"vol-": 4 * GIB, "disk": 5 * GIB}
    text, hint = await refusal(cloud, "resizeVolume", id=volume.uuid, size=2)
    assert text == "size: 2 GiB is less than the 3 GiB of data"
    assert hint == "choose at least 3: a volume cannot become smaller"


@pytest_twisted.ensureDeferred
async def test_refusals_name_the_parameter_and_what_would_be_accepted(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    volume, other = await create(cloud), await create(cloud, name="other")
    foreign = await create(
        cloud, name="foreign", account=cloud.user.account.name, domainid=cloud.user.domain.uuid
    )
    await attach(cloud, volume, vm)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    assert "1 to 1024 GiB" in (await refusal(cloud, "createVolume", size=0))[0]
    here = {"id": other.uuid, "virtualmachineid": vm.uuid}
    assert await refusal(cloud, "attachVolume", **here, deviceid=1) == (
        f"deviceid: 1 is not free on {vm.name}",
        "omit it, or choose one of 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    )
    assert "deviceid: 3 is not" in (await refusal(cloud, "attachVolume", **here, deviceid=3))[0]
    text, _ = await refusal(cloud, "attachVolume", id=foreign.uuid, virtualmachineid=vm.uuid)
    assert text.startswith("virtualmachineid: ")
    assert (await refusal(cloud, "attachVolume", id=root.uuid, virtualmachineid=vm.uuid))[1] == (
        "choose a volume of type DATADISK"
    )
    second = await deploy_running(cloud)
    assert (await refusal(cloud, "attachVolume", id=volume.uuid, virtualmachineid=second.uuid))[1] == (
        "detach it first with detachVolume"
    )
    assert (await refusal(cloud, "detachVolume", id=root.uuid))[1] == "choose a volume of type DATADISK"
    assert (await refusal(cloud, "detachVolume", virtualmachineid=vm.uuid, deviceid=9))[
        1
    ] == "choose one of 1"
    assert (await refusal(cloud, "detachVolume", virtualmachineid=vm.uuid))[1].startswith("send id alone")
    with pytest.raises(VolumeStateError, match="detach it first"):
        await cloud.call("deleteVolume", id=volume.uuid)
    with pytest.raises(VolumeStateError, match="destroy and expunge"):
        await cloud.call("deleteVolume", id=root.uuid)


@pytest_twisted.ensureDeferred
async def test_users_see_and_change_only_their_own(cloud: SmallCloud) -> None:
    mine = await create(cloud)
    assert await cloud.call("listVolumes", cloud.user) == {}
    for command, more in (
        ("deleteVolume", {}),
        ("detachVolume", {}),
        ("resizeVolume", {"size": 9}),
    ):
        with pytest.raises(ApiError) as error:
            await cloud.call(command, cloud.user, id=mine.uuid, **more)
        assert error.value.code is ErrorCode.UNAUTHORIZED


@pytest_twisted.ensureDeferred
async def test_an_expunged_vm_leaves_its_data_volumes(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    await attach(cloud, volume, vm)
    await cloud.machines.destroy(vm.id)
    assert row(cloud, volume).vm_id == vm.id, "it can be recovered with its volumes"
    text, _ = await refusal(cloud, "attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert text.endswith("is Destroyed")
    await cloud.machines.expunge(vm.id)
    left = row(cloud, volume)
    assert (left.vm_id, left.device_id, left.removed) == (None, None, None)
    assert cloud.primary.volume_path(volume.uuid).exists()


@pytest_twisted.ensureDeferred
async def test_a_failed_creation_leaves_nothing(cloud: SmallCloud) -> None:
    cloud.primary.fails_with = OSError(28, "No space left on device")
    job = await cloud.job("createVolume", size=1)
    assert job.result_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert await cloud.call("listVolumes") == {}


@pytest_twisted.ensureDeferred
async def test_what_a_killed_daemon_began_is_completed(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    volume = await create(cloud)
    # killed after the row changed, before QEMU was called: the job runs again
    claimed = cloud.database.run_now(transitions.attach, volume.id, vm, None)
    assert claimed.device_id == 1
    assert (await attach(cloud, volume, vm))["deviceid"] == 1
    assert list(cloud.hypervisor.disks(vm.instance_name).attached) == [volume.uuid]
    # killed after QEMU released it, before the row changed
    await cloud.hypervisor.disks(vm.instance_name).detach(volume.uuid)
    await cloud.volumes.detach(volume.id)
    assert row(cloud, volume).vm_id is None
    # killed before the file was deleted
    cloud.database.run_now(transitions.claim_deletion, volume.id)
    text, _ = await refusal(cloud, "attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert text == "id: volume data was deleted"
    await cloud.volumes.finish_deletions()
    assert row(cloud, volume).removed is not None
    assert not cloud.primary.volume_path(volume.uuid).exists()


@pytest_twisted.ensureDeferred
async def test_volumes_of_a_deleted_account_are_deleted(cloud: SmallCloud) -> None:
    volume = await create(cloud, account=cloud.user.account.name, domainid=cloud.user.domain.uuid)
    await cloud.account_service.delete_account(cloud.user.account.id)
    assert row(cloud, volume).removed is not None


@pytest_twisted.ensureDeferred
async def test_a_vm_in_transition_takes_no_volume(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    volume = await create(cloud)
    cloud.database.run_now(instances.update, vm.id, state=InstanceState.STARTING)
    text, hint = await refusal(cloud, "attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert (text, hint) == (f"virtualmachineid: {vm.name} is Starting", "wait until it is Running or Stopped")
