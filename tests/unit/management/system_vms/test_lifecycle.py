# SPDX-License-Identifier: Apache-2.0
"""System VMs are stopped, rebooted and destroyed; agents are admitted only while their VM runs."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
import pytest_twisted

from settling import settled
from systemvm.management.hypervisors.base import ExitReason
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import addresses, alerts, console_sessions, events, instances
from systemvm.management.state.alerts import AlertFilter
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AgentState, InstanceState, InstanceType
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller


@pytest_twisted.ensureDeferred
async def test_only_agents_of_existing_vms_are_admitted(host: Any) -> None:
    await host.reconciler.scan()
    host.directory.admit(Caller("s-1-VM", "ssvm"))
    for caller in (Caller("s-9-VM", "ssvm"), Caller("s-1-VM", "cpvm")):
        with pytest.raises(RpcError, match="no system VM"):
            host.directory.admit(caller)


@pytest_twisted.ensureDeferred
async def test_agent_is_admitted_only_while_its_machine_runs(host: Any) -> None:
    agent = Caller("S-1-vm", "ssvm")  # names are compared without case
    launch, end = host.hypervisor.start, host.hypervisor.stop
    admitted: list[InstanceState] = []

    async def start(spec: Any) -> Any:
        status = await launch(spec)
        if spec.name == "s-1-VM":
            host.directory.admit(agent)
            admitted.append((await host.vm("s-1-VM")).state)
        return status

    async def stop(name: str, **how: Any) -> None:
        host.directory.admit(agent)  # it can connect until it ends
        admitted.append((await host.vm("s-1-VM")).state)
        await end(name, **how)

    host.hypervisor.start, host.hypervisor.stop = start, stop
    await host.reconciler.scan()
    vm = await host.vm("s-1-VM")
    await host.lifecycle.reboot(vm.uuid)
    host.directory.admit(agent)
    await host.lifecycle.stop(vm.uuid)
    starting, stopping = InstanceState.STARTING, InstanceState.STOPPING
    assert admitted == [starting, stopping, starting, stopping]
    with pytest.raises(RpcError, match="s-1-VM does not run"):
        host.directory.admit(agent)
    await host.reconciler.scan()
    host.directory.admit(agent)
    host.hypervisor.end("s-1-VM", ExitReason.GUEST_PANIC)
    with pytest.raises(RpcError, match="s-1-VM does not run"):
        host.directory.admit(agent)
    await settled(host.database)
    assert host.directory.agent("s-1-VM").status.state is AgentState.DISCONNECTED
    await host.database.drain()


@pytest_twisted.ensureDeferred
async def test_stopped_system_vm_starts_again_with_its_name_and_addresses(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("s-1-VM")
    had = await host.database.read(addresses.of_vm, vm.id)
    stopped = await host.lifecycle.stop(vm.uuid)
    assert stopped.state is InstanceState.STOPPED
    assert host.directory.agent("s-1-VM").status.state is AgentState.DISCONNECTED
    assert host.hypervisor.stopped == [("s-1-VM", False)]
    await host.reconciler.scan()
    assert (await host.vm("s-1-VM")).state is InstanceState.RUNNING
    assert await host.database.read(addresses.of_vm, vm.id) == had


@pytest_twisted.ensureDeferred
async def test_failed_stop_leaves_it_running_with_a_reason(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("s-1-VM")

    async def stuck(name: str, **how: Any) -> None:
        raise HypervisorError("QEMU (pid 7) cannot be ended", "look at the host's disks")

    host.hypervisor.stop = stuck
    with pytest.raises(HypervisorError, match="cannot be ended"):
        await host.lifecycle.stop(vm.uuid)
    after = await host.vm("s-1-VM")
    assert after.state is InstanceState.RUNNING
    assert after.reason == "It could not be stopped: QEMU (pid 7) cannot be ended"
    assert after.hint == "look at the host's disks"


@pytest_twisted.ensureDeferred
async def test_a_machine_that_ends_as_its_stop_fails_is_stopped(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("s-1-VM")

    async def ends_after_all(name: str, **how: Any) -> None:
        host.hypervisor.end(name, ExitReason.KILLED)  # its row is Stopping: nobody notes that end
        raise HypervisorError("QEMU (pid 7) cannot be ended")

    host.hypervisor.stop = ends_after_all
    stopped = await host.lifecycle.stop(vm.uuid)
    await settled(host.database)
    assert stopped.state is (await host.vm("s-1-VM")).state is InstanceState.STOPPED


@pytest_twisted.ensureDeferred
async def test_a_failed_start_is_an_alert_once_for_each_reason(host: Any) -> None:
    for message in ("no memory is left", "no memory is left", "disk is full"):
        host.hypervisor.failing = HypervisorError(message, "stop a machine")
        await host.reconciler.scan()
        host.clock.advance(3600.0)
    found, count = await host.database.read(alerts.page, AlertFilter(type=19), slice(None))
    assert count == 2
    texts = [f"s-1-VM could not be started: {reason}" for reason in ("disk is full", "no memory is left")]
    assert [alert.description for alert in found] == texts
    host.hypervisor.failing = None
    await host.reconciler.scan()
    assert await host.database.read(alerts.page, AlertFilter(type=19), slice(None)) == (found, 2)


@pytest_twisted.ensureDeferred
async def test_reboot_keeps_the_public_address_and_can_be_forced(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("v-2-VM")
    running = await host.lifecycle.reboot(vm.uuid, forced=True)
    assert running.state is InstanceState.RUNNING
    assert host.hypervisor.stopped == [("v-2-VM", True)]
    assert (await host.database.read(addresses.of_vm, vm.id))["public"] == "203.0.113.101"
    kinds = [event.type for event in await host.database.read(events.newest, 3)]
    assert kinds == ["PROXY.REBOOT", "PROXY.START", "PROXY.STOP"]


@pytest_twisted.ensureDeferred
async def test_restarted_cpvm_has_no_sessions(host: Any) -> None:
    await host.reconciler.scan()
    ssvm, cpvm = await host.vm("s-1-VM"), await host.vm("v-2-VM")
    await host.database.run(instances.update, cpvm.id, console_sessions=1)
    await host.database.run(
        console_sessions.rows.insert,
        account_id=1,
        domain_id=1,
        user_id=1,
        vm_id=ssvm.id,
        proxy_id=cpvm.id,
        token_hash="x",
        token_expires=now(),
        acquired=now(),
        session_expires=now(),
    )
    await host.lifecycle.reboot(ssvm.uuid, forced=True)
    assert len(await host.database.read(console_sessions.active, cpvm.id)) == 1
    await host.lifecycle.reboot(cpvm.uuid, forced=True)
    assert await host.database.read(console_sessions.active, cpvm.id) == []
    assert (await host.vm("v-2-VM")).console_sessions == 0


@pytest_twisted.ensureDeferred
async def test_destroyed_system_vm_is_replaced_under_a_new_name(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("v-2-VM")
    await host.lifecycle.destroy(vm.uuid)
    with pytest.raises(NotFoundError):
        await host.vm("v-2-VM")
    assert host.admission.addresses == set()
    assert await host.database.read(addresses.of_vm, vm.id) == {}
    with pytest.raises(RpcError):
        host.directory.admit(Caller("v-2-VM", "cpvm"))
    await host.reconciler.scan()
    assert set(host.hypervisor.specs) == {"s-1-VM", "v-3-VM"}
    assert host.admission.addresses == {IPv4Address("10.11.0.101")}


@pytest_twisted.ensureDeferred
async def test_newer_image_gives_a_new_disk_at_the_next_start(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("s-1-VM")
    host.images.rebuild()
    await host.lifecycle.reboot(vm.uuid)
    assert str(host.hypervisor.specs["s-1-VM"].kernel) == "/images/b/vmlinuz"
    assert str(host.primary.clones[-1][1]) == "/images/b/disk.qcow2"
    assert (await host.vm("s-1-VM")).image_sha256 == "b" * 64


@pytest_twisted.ensureDeferred
async def test_user_vm_is_not_a_system_vm(host: Any) -> None:
    user = await host.database.run(instances.create, InstanceType.USER, account_id=2, zone_id=1)
    with pytest.raises(HypervisorError, match="is not a system VM"):
        await host.lifecycle.stop(user.uuid)


@pytest_twisted.ensureDeferred
async def test_system_vm_has_a_screen_while_it_runs(host: Any) -> None:
    await host.reconciler.scan()
    vm = await host.vm("s-1-VM")
    spec = host.hypervisor.specs["s-1-VM"]
    assert (vm.vnc_address, vm.vnc_port, vm.vnc_ca_pem) == ("10.11.0.1", 5900, "CA")
    seal = Seal.open_key(host.configuration.layout.pki)
    assert seal.open(vm.sealed_vnc_password) == spec.vnc.password
    assert spec.append.startswith("console=tty0 "), "the last console= is /dev/console"
    await host.lifecycle.stop(vm.uuid)
    stopped = await host.vm("s-1-VM")
    assert {getattr(stopped, column) for column in instances.NO_SCREEN} == {None}
    await host.lifecycle.start(vm.uuid)
    assert host.hypervisor.specs["s-1-VM"].vnc.password != spec.vnc.password
    host.hypervisor.end("s-1-VM", ExitReason.GUEST_PANIC)
    await settled(host.database)
    ended = await host.vm("s-1-VM")
    assert {getattr(ended, column) for column in instances.NO_SCREEN} == {None}
