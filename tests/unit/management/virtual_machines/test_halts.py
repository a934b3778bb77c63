# SPDX-License-Identifier: Apache-2.0
"""VMs that wait because their storage is full say so, and go on when there is room."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import events
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.exit_reasons import DISK_FULL
from systemvm.management.virtual_machines.halts import INTERVAL_S, HaltedMachines
from user_vms import deploy_running, deploy_stopped

HALTS = ("VM.HALT", "VM.RESUME")


def halts_of(cloud: SmallCloud) -> HaltedMachines:
    return HaltedMachines(cloud.clock, cloud.database, cloud.hypervisor, host_id=cloud.host.id)  # type: ignore[arg-type]


async def look(cloud: SmallCloud, halts: HaltedMachines) -> None:
    await halts.look()
    await settled(cloud.database)


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
    await look(cloud, halts)
    assert cloud.hypervisor.resumed == noted(cloud) == []

    cloud.hypervisor.conditions[vm.instance_name] = "io-error"
    for _ in range(2):
        await look(cloud, halts)
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
    await look(cloud, halts)
    assert "reason" not in await listed(cloud, vm.uuid)
    assert noted(cloud) == list(HALTS)


@pytest_twisted.ensureDeferred
async def test_a_halted_vm_that_is_stopped_is_no_longer_halted(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    halts = halts_of(cloud)
    cloud.hypervisor.conditions[vm.instance_name] = "io-error"
    await look(cloud, halts)
    stopped = await cloud.machines.stop(vm.id, forced=True)
    assert (stopped.state, stopped.reason) == (InstanceState.STOPPED, None)
    await look(cloud, halts)
    cloud.hypervisor.conditions.clear()
    await cloud.machines.start(vm.id)
    await look(cloud, halts)
    assert noted(cloud) == ["VM.HALT"]


@pytest.mark.parametrize("is_stopped", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_vm_that_is_started_between_two_looks_and_halted_again_says_so(
    cloud: SmallCloud, is_stopped: bool
) -> None:
    vm = await deploy_running(cloud)
    halts = halts_of(cloud)
    cloud.hypervisor.conditions[vm.instance_name] = "io-error"
    await look(cloud, halts)
    if is_stopped:
        await cloud.machines.stop(vm.id, forced=True)
    started = await cloud.machines.start(vm.id)  # does nothing to one that runs, and clears its reason
    assert started.reason is None
    await look(cloud, halts)
    assert cloud.instance(vm.id).reason == DISK_FULL.reason
    cloud.hypervisor.conditions.clear()
    await look(cloud, halts)
    assert cloud.instance(vm.id).reason is None


@pytest_twisted.ensureDeferred
async def test_a_vm_that_could_not_be_stopped_keeps_its_reason(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    cloud.hypervisor.fails_with = HypervisorError("QEMU cannot be ended")
    with pytest.raises(HypervisorError):
        await cloud.machines.stop(vm.id)
    cloud.hypervisor.fails_with = None
    await look(cloud, halts_of(cloud))
    assert "QEMU cannot be ended" in (await listed(cloud, vm.uuid))["reason"]


@pytest_twisted.ensureDeferred
async def test_a_vm_whose_monitor_hangs_delays_no_other(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, vm = await deploy_running(cloud), await deploy_running(cloud)
    asked: list[str] = []
    answer: Deferred[str] = Deferred()

    async def condition(name: str) -> str:
        asked.append(name)
        return await answer if name == hung.instance_name else "io-error"

    monkeypatch.setattr(cloud.hypervisor, "condition", condition)
    halts = halts_of(cloud)
    for _ in range(2):
        await look(cloud, halts)
    assert cloud.hypervisor.resumed == [vm.instance_name] * 2
    assert asked.count(hung.instance_name) == 1, "it is not asked again before it has answered"
    answer.callback("io-error")
    await settled(cloud.database)
    assert cloud.hypervisor.resumed[2:] == [hung.instance_name]


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
