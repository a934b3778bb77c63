# SPDX-License-Identifier: Apache-2.0
"""A Stopped VM is given another service offering, within the limits of its account."""

from __future__ import annotations

import pytest
import pytest_twisted

from shared_pools import create_pool
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.resource_limits.errors import ResourceLimitError
from systemvm.management.state import resource_counts, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import create as create_job
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.virtual_machines.errors import MachineStateError, NotScalableError
from user_vms import deploy_by_api, deploy_running, deploy_stopped

CHANGE, SCALE = "changeServiceForVirtualMachine", "scaleVirtualMachine"


async def offering(cloud: SmallCloud, name: str) -> str:
    found = await cloud.call("listServiceOfferings", name=name)
    return str(found["serviceoffering"][0]["id"])


async def create_offering(cloud: SmallCloud, **more: str) -> str:
    made = await cloud.call("createServiceOffering", **{"name": "made", "cpunumber": 3, "memory": 96} | more)
    return str(made["serviceoffering"]["id"])


def size(cloud: SmallCloud, vm: Instance) -> tuple[int, int]:
    now = cloud.instance(vm.id)
    return now.vcpus, now.memory_mib


@pytest_twisted.ensureDeferred
async def test_a_stopped_vm_has_another_offering_from_its_next_start(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, startvm="false")
    large = await offering(cloud, "large")
    job = await cloud.job(SCALE, id=vm.uuid, serviceofferingid=large)
    assert job.result["virtualmachine"]["serviceofferingname"] == "large"
    [listed] = (await cloud.call("listVirtualMachines", id=vm.uuid))["virtualmachine"]
    assert (listed["serviceofferingid"], listed["cpunumber"], listed["memory"]) == (large, 2, 2048)
    await cloud.job("startVirtualMachine", id=vm.uuid)
    spec = cloud.hypervisor.specs[vm.instance_name]
    assert (spec.vcpus, spec.memory_mib) == (2, 2048)
    events = (await cloud.call("listEvents", type="VM.UPGRADE"))["event"]
    assert [event["description"] for event in events] == [
        f"{vm.name} has the offering large from its next start"
    ]


@pytest_twisted.ensureDeferred
async def test_the_synchronous_command_answers_the_vm(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    answer = await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=await offering(cloud, "medium"))
    assert answer["virtualmachine"]["serviceofferingname"] == "medium"
    assert size(cloud, vm) == (1, 1024)


@pytest.mark.parametrize("command", [CHANGE, SCALE])
@pytest_twisted.ensureDeferred
async def test_a_vm_that_is_not_stopped_keeps_its_offering(cloud: SmallCloud, command: str) -> None:
    vm = await deploy_running(cloud)
    large = await offering(cloud, "large")
    with pytest.raises(
        MachineStateError, match="in state Running; make sure the virtual machine is"
    ) as refused:
        await cloud.call(command, id=vm.uuid, serviceofferingid=large)
    assert "stopVirtualMachine" in refused.value.hint
    await cloud.machines.destroy(vm.id)
    with pytest.raises(MachineStateError, match="in state Destroyed"):
        await cloud.call(command, id=vm.uuid, serviceofferingid=large)
    assert size(cloud, vm) == (1, 64)


@pytest_twisted.ensureDeferred
async def test_the_offering_that_it_has_is_refused(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud, startvm="false")
    with pytest.raises(NotScalableError, match=r"already has the requested service offering \(small\)"):
        await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=await offering(cloud, "small"))


@pytest_twisted.ensureDeferred
async def test_a_vm_of_another_account_and_an_unknown_offering_are_refused(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    with pytest.raises(ApiError, match="must not operate"):
        await cloud.call(CHANGE, cloud.user, id=vm.uuid, serviceofferingid=await offering(cloud, "large"))
    with pytest.raises(ApiError, match="there is no service offering"):
        await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=vm.uuid)
    with pytest.raises(ApiError, match="details"):
        await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=vm.uuid, details={"cpuNumber": "2"})


@pytest_twisted.ensureDeferred
async def test_an_account_gets_no_more_than_its_limit(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud, cloud.user)
    account = cloud.user.account
    for kind, most in ((ResourceType.memory, 600), (ResourceType.cpu, 1)):
        await cloud.call(
            "updateResourceLimit", account=account.name, domainid=cloud.user.domain.uuid,
            resourcetype=int(kind), max=most,
        )  # fmt: skip
    for name, limited in (("medium", "memory"), ("large", "cpu")):
        with pytest.raises(ResourceLimitError, match=f"Type = '{limited}'"):
            await cloud.call(CHANGE, cloud.user, id=vm.uuid, serviceofferingid=await offering(cloud, name))
    assert size(cloud, vm) == (1, 64)
    await cloud.call(CHANGE, cloud.user, id=vm.uuid, serviceofferingid=await offering(cloud, "small"))
    counts = cloud.database.run_now(resource_counts.of_accounts, [account.id])[account.id]
    assert (counts[ResourceType.cpu], counts[ResourceType.memory]) == (1, 512)
    # with less than it has now as its limit it can become smaller still
    await cloud.call(
        "updateResourceLimit", account=account.name, domainid=cloud.user.domain.uuid,
        resourcetype=int(ResourceType.memory), max=10,
    )  # fmt: skip
    await cloud.call(CHANGE, cloud.user, id=vm.uuid, serviceofferingid=await offering(cloud, "tiny"))
    assert size(cloud, vm) == (1, 128)


@pytest_twisted.ensureDeferred
async def test_an_offering_with_other_storage_is_refused(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    shared = await create_offering(cloud, storagetype="shared")
    with pytest.raises(
        NotScalableError,
        match=r"target offering use shared storage but the storage pool .* is a local storage",
    ):
        await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=shared)
    pool = await create_pool(cloud)
    root = cloud.database.run_now(volumes.root_of, vm.id)
    assert root is not None
    cloud.database.run_now(volumes.update, root.id, pool_id=pool.id)
    await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=shared)
    assert size(cloud, vm) == (3, 96)
    with pytest.raises(
        NotScalableError,
        match=r"target offering use local storage but the storage pool .* is a shared storage",
    ):
        await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=await offering(cloud, "tiny"))


@pytest_twisted.ensureDeferred
async def test_an_offering_whose_tags_its_pool_lacks_is_refused(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    fast = await create_offering(cloud, tags="fast,ssd")
    with pytest.raises(NotScalableError, match="does not have the tags of offering made: fast, ssd"):
        await cloud.call(CHANGE, id=vm.uuid, serviceofferingid=fast)
    assert size(cloud, vm) == (1, 64)


@pytest_twisted.ensureDeferred
async def test_a_killed_daemon_repeats_a_job_that_was_done(cloud: SmallCloud) -> None:
    vm = await deploy_stopped(cloud)
    first = await cloud.job(SCALE, id=vm.uuid, serviceofferingid=await create_offering(cloud))
    before = await cloud.call("listEvents", type="VM.UPGRADE")
    job = cloud.database.run_now(
        lambda connection: create_job(
            connection,
            command=SCALE,
            arguments=first.arguments,
            account_id=cloud.admin.account.id,
            domain_id=cloud.admin.domain.id,
            user_id=cloud.admin.user.id,
        )
    )
    await cloud.jobs.resume_pending()
    ended = await cloud.jobs.wait(job.uuid)
    assert ended.result_code == 0
    assert ended.result == first.result
    assert await cloud.call("listEvents", type="VM.UPGRADE") == before
