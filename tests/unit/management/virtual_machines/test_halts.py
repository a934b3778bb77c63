# SPDX-License-Identifier: Apache-2.0
"""VMs that wait because their storage is full say so, and go on when there is room."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import events
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.halts import INTERVAL_S, HaltedMachines
from user_vms import deploy_running, deploy_stopped

HALTS = ("VM.HALT", "VM.RESUME")


def halts_of(cloud: SmallCloud) -> HaltedMachines:
    return HaltedMachines(cloud.clock, cloud.database, cloud.hypervisor, host_id=cloud.host.id)  # type: ignore[arg-type]


async def listed(cloud: SmallCloud, uuid: str) -> dict[str, Any]:
    [vm] = (await cloud.call("listVirtualMachines", id=uuid))["virtualmachine"]
    row: dict[str, Any] = vm
    return row


def noted(cloud: SmallCloud) -> list[str]:
    return [each.type for each in cloud.database.run_now(events.rows.all) if each.type in HALTS]


@pytest_twisted.ensureDeferred
async def test_a_vm_on_full_storage_says_so_and_goes_on(cloud: SmallCloud) -> None:
    vm, other = await deploy_running(cloud), await deploy_running(cloud)
    await deploy_stopped(cloud)
    halts = halts_of(cloud)
    await halts.look()
    assert cloud.hypervisor.resumed == noted(cloud) == []

    cloud.hypervisor.conditions[vm.instance_name] = "io-error"
    for _ in range(2):
        await halts.look()
    assert cloud.hypervisor.resumed == [vm.instance_name] * 2, "it is tried again each time"
    assert noted(cloud) == ["VM.HALT"], "and noted once"
    row = await listed(cloud, vm.uuid)
    assert (row["state"], "room" in row["reason"], "goes on by itself" in row["hint"]) == (
        "Running",
        True,
        True,
    )
    assert "reason" not in await listed(cloud, other.uuid)

    cloud.hypervisor.conditions.clear()
    await halts.look()
    assert "reason" not in await listed(cloud, vm.uuid)
    assert noted(cloud) == list(HALTS)


@pytest_twisted.ensureDeferred
async def test_a_halted_vm_that_is_stopped_is_no_longer_halted(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    halts = halts_of(cloud)
    cloud.hypervisor.conditions[vm.instance_name] = "io-error"
    await halts.look()
    stopped = await cloud.machines.stop(vm.id, forced=True)
    assert (stopped.state, stopped.reason) == (InstanceState.STOPPED, None)
    await halts.look()
    cloud.hypervisor.conditions.clear()
    await cloud.machines.start(vm.id)
    await halts.look()
    assert noted(cloud) == ["VM.HALT"]


@pytest_twisted.ensureDeferred
async def test_a_vm_that_does_not_answer_is_asked_again(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    halts = halts_of(cloud)
    cloud.hypervisor.fails_with = HypervisorError("QEMU's monitor cannot be reached")
    halts.start()
    cloud.clock.advance(INTERVAL_S)
    await settled(cloud.database)
    assert cloud.hypervisor.resumed == []
    cloud.hypervisor.fails_with = None
    cloud.hypervisor.conditions[vm.instance_name] = "io-error"
    cloud.clock.advance(INTERVAL_S)
    await settled(cloud.database)
    halts.stop()
    assert cloud.hypervisor.resumed == [vm.instance_name]
