# SPDX-License-Identifier: Apache-2.0
"""Each zone keeps one SSVM and one CPVM through failures, restarts and new images."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509

from settling import settled
from systemvm.management.hypervisors.base import ExitReason
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import addresses, console_sessions, events, instances, zones
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import check_agent
from systemvm.wire import boot_arguments


async def vm_of(world: Any, name: str) -> instances.Instance:
    found: instances.Instance = await world.database.read(instances.by_instance_name, name)
    return found


@pytest_twisted.ensureDeferred
async def test_zone_gets_one_system_vm_of_each_role(world: Any) -> None:
    await world.reconciler.scan()
    await world.reconciler.scan()
    assert [spec.name for spec in world.hypervisor.started] == ["s-1-VM", "v-2-VM"]
    ssvm, cpvm = await vm_of(world, "s-1-VM"), await vm_of(world, "v-2-VM")
    assert (ssvm.state, cpvm.state) == (InstanceState.RUNNING, InstanceState.RUNNING)
    assert (ssvm.memory_mib, cpvm.memory_mib, cpvm.vcpus) == (512, 256, 1)
    assert (ssvm.account_id, ssvm.host_id) == (1, world.host_id)
    assert world.admission.addresses == {IPv4Address("10.11.0.101")}


@pytest_twisted.ensureDeferred
async def test_machine_is_a_clone_with_its_own_credentials(world: Any) -> None:
    await world.reconciler.scan()
    spec = world.hypervisor.specs["s-1-VM"]
    assert spec.is_system
    assert spec.vnc is None
    assert (str(spec.kernel), str(spec.initrd)) == ("/images/a/vmlinuz", "/images/a/initrd")
    assert world.primary.clones[0][1].name == "disk.qcow2"
    identity = Identity.from_pem_bundle(spec.credentials[boot_arguments.IDENTITY_CREDENTIAL])
    caller = check_agent(x509.load_pem_x509_certificate(identity.certificate_pem))
    assert (caller.name, caller.role) == ("s-1-VM", "ssvm")
    assert b"PRIVATE" not in repr(spec).encode()


@pytest_twisted.ensureDeferred
async def test_only_agents_of_existing_vms_are_admitted(world: Any) -> None:
    await world.reconciler.scan()
    world.directory.admit(Caller("s-1-VM", "ssvm"))
    for stranger in (Caller("s-9-VM", "ssvm"), Caller("s-1-VM", "cpvm")):
        with pytest.raises(RpcError, match="no system VM"):
            world.directory.admit(stranger)


@pytest_twisted.ensureDeferred
async def test_agent_is_admitted_only_while_its_machine_runs(world: Any) -> None:
    agent = Caller("S-1-vm", "ssvm")  # names are compared without case
    launch, end = world.hypervisor.start, world.hypervisor.stop
    admitted: list[InstanceState] = []

    async def start(spec: Any) -> Any:
        status = await launch(spec)
        if spec.name == "s-1-VM":
            world.directory.admit(agent)
            admitted.append((await vm_of(world, "s-1-VM")).state)
        return status

    async def stop(name: str, **how: Any) -> None:
        world.directory.admit(agent)  # it can connect until it ends
        admitted.append((await vm_of(world, "s-1-VM")).state)
        await end(name, **how)

    world.hypervisor.start, world.hypervisor.stop = start, stop
    await world.reconciler.scan()
    vm = await vm_of(world, "s-1-VM")
    await world.lifecycle.reboot(vm.uuid)
    world.directory.admit(agent)
    await world.lifecycle.stop(vm.uuid)
    starting, stopping = InstanceState.STARTING, InstanceState.STOPPING
    assert admitted == [starting, stopping, starting, stopping]
    with pytest.raises(RpcError, match="s-1-VM does not run"):
        world.directory.admit(agent)
    await world.reconciler.scan()
    world.directory.admit(agent)
    world.hypervisor.end("s-1-VM", ExitReason.GUEST_PANIC)
    with pytest.raises(RpcError, match="s-1-VM does not run"):
        world.directory.admit(agent)
    await settled(world.database)
    assert world.directory.agent("s-1-VM").status.state is AgentState.DISCONNECTED
    await world.database.drain()


@pytest_twisted.ensureDeferred
async def test_reset_in_the_guest_restarts_it_with_fresh_credentials(world: Any) -> None:
    await world.reconciler.scan()
    before = world.hypervisor.specs["s-1-VM"]
    world.directory.agent("s-1-VM").hello = object()  # it had come up
    world.reconciler.start()
    world.clock.advance(0)  # the first scan, whose timer is not the awaited one
    world.hypervisor.end("s-1-VM", ExitReason.GUEST_RESET)
    await settled(world.database)
    assert any(call.getTime() < 2 for call in world.clock.getDelayedCalls())
    world.clock.advance(1.5)
    await settled(world.database)
    assert "s-1-VM" in world.hypervisor.specs
    after = world.hypervisor.specs["s-1-VM"]
    assert (
        after.credentials[boot_arguments.IDENTITY_CREDENTIAL]
        != before.credentials[boot_arguments.IDENTITY_CREDENTIAL]
    )
    assert (
        after.credentials[boot_arguments.CMDLINE_CREDENTIAL]
        == before.credentials[boot_arguments.CMDLINE_CREDENTIAL]
    )
    assert after.disk == before.disk
    assert len(world.primary.clones) == 2
    await world.reconciler.stop()


@pytest_twisted.ensureDeferred
async def test_failed_start_has_a_reason_and_a_growing_backoff(world: Any) -> None:
    world.hypervisor.failing = HypervisorError("no memory is left", "stop a machine")
    await world.reconciler.scan()
    ssvm = await vm_of(world, "s-1-VM")
    assert ssvm.state is InstanceState.STOPPED
    assert ssvm.reason == "could not be started: no memory is left"
    assert ssvm.hint == "stop a machine"
    world.hypervisor.failing = None
    await world.reconciler.scan()
    assert world.hypervisor.started == []  # the backoff is 5 s
    world.clock.advance(5.1)
    await world.reconciler.scan()
    assert [spec.name for spec in world.hypervisor.started] == ["s-1-VM", "v-2-VM"]  # with the same names


@pytest_twisted.ensureDeferred
async def test_end_before_hello_is_restarted_with_a_backoff(world: Any) -> None:
    await world.reconciler.scan()
    world.hypervisor.end("s-1-VM", ExitReason.GUEST_PANIC)
    await settled(world.database)
    assert (await vm_of(world, "s-1-VM")).state is InstanceState.STOPPED
    await world.reconciler.scan()
    assert len(world.hypervisor.started) == 2
    world.clock.advance(5.1)
    await world.reconciler.scan()
    assert len(world.hypervisor.started) == 3


@pytest_twisted.ensureDeferred
async def test_stopped_system_vm_starts_again_with_its_name_and_addresses(world: Any) -> None:
    await world.reconciler.scan()
    vm = await vm_of(world, "s-1-VM")
    had = await world.database.read(addresses.of_vm, vm.id)
    stopped = await world.lifecycle.stop(vm.uuid)
    assert stopped.state is InstanceState.STOPPED
    assert world.directory.agent("s-1-VM").status.state is AgentState.DISCONNECTED
    assert world.hypervisor.stopped == [("s-1-VM", False)]
    await world.reconciler.scan()
    assert (await vm_of(world, "s-1-VM")).state is InstanceState.RUNNING
    assert await world.database.read(addresses.of_vm, vm.id) == had


@pytest_twisted.ensureDeferred
async def test_failed_stop_leaves_it_running_with_a_reason(world: Any) -> None:
    await world.reconciler.scan()
    vm = await vm_of(world, "s-1-VM")

    async def stuck(name: str, **how: Any) -> None:
        raise HypervisorError("QEMU (pid 7) cannot be ended", "look at the host's disks")

    world.hypervisor.stop = stuck
    with pytest.raises(HypervisorError, match="cannot be ended"):
        await world.lifecycle.stop(vm.uuid)
    after = await vm_of(world, "s-1-VM")
    assert after.state is InstanceState.RUNNING
    assert after.reason == "It could not be stopped: QEMU (pid 7) cannot be ended"
    assert after.hint == "look at the host's disks"


@pytest_twisted.ensureDeferred
async def test_reboot_keeps_the_public_address_and_can_be_forced(world: Any) -> None:
    await world.reconciler.scan()
    vm = await vm_of(world, "v-2-VM")
    running = await world.lifecycle.reboot(vm.uuid, forced=True)
    assert running.state is InstanceState.RUNNING
    assert world.hypervisor.stopped == [("v-2-VM", True)]
    assert (await world.database.read(addresses.of_vm, vm.id))["public"] == "203.0.113.101"
    kinds = [event.type for event in await world.database.read(events.newest, 3)]
    assert kinds == ["PROXY.REBOOT", "PROXY.START", "PROXY.STOP"]


@pytest_twisted.ensureDeferred
async def test_restarted_cpvm_has_no_sessions(world: Any) -> None:
    await world.reconciler.scan()
    ssvm, cpvm = await vm_of(world, "s-1-VM"), await vm_of(world, "v-2-VM")
    await world.database.run(instances.update, cpvm.id, console_sessions=1)
    await world.database.run(
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
    await world.lifecycle.reboot(ssvm.uuid, forced=True)
    assert len(await world.database.read(console_sessions.active, cpvm.id)) == 1
    await world.lifecycle.reboot(cpvm.uuid, forced=True)
    assert await world.database.read(console_sessions.active, cpvm.id) == []
    assert (await vm_of(world, "v-2-VM")).console_sessions == 0


@pytest_twisted.ensureDeferred
async def test_destroyed_system_vm_is_replaced_under_a_new_name(world: Any) -> None:
    await world.reconciler.scan()
    vm = await vm_of(world, "v-2-VM")
    await world.lifecycle.destroy(vm.uuid)
    with pytest.raises(NotFoundError):
        await vm_of(world, "v-2-VM")
    assert world.admission.addresses == set()
    assert await world.database.read(addresses.of_vm, vm.id) == {}
    with pytest.raises(RpcError):
        world.directory.admit(Caller("v-2-VM", "cpvm"))
    await world.reconciler.scan()
    assert set(world.hypervisor.specs) == {"s-1-VM", "v-3-VM"}
    assert world.admission.addresses == {IPv4Address("10.11.0.101")}


@pytest_twisted.ensureDeferred
async def test_newer_image_gives_a_new_disk_at_the_next_start(world: Any) -> None:
    await world.reconciler.scan()
    vm = await vm_of(world, "s-1-VM")
    world.images.rebuild()
    await world.lifecycle.reboot(vm.uuid)
    assert str(world.hypervisor.specs["s-1-VM"].kernel) == "/images/b/vmlinuz"
    assert str(world.primary.clones[-1][1]) == "/images/b/disk.qcow2"
    assert (await vm_of(world, "s-1-VM")).image_sha256 == "b" * 64


@pytest_twisted.ensureDeferred
async def test_restarted_daemon_adopts_running_and_starts_other_system_vms(world: Any) -> None:
    await world.reconciler.scan()
    del world.hypervisor.specs["v-2-VM"]  # it ended while the daemon was down
    again = world.restarted()
    await again.reconciler.adopt(await again.hypervisor.adopt())
    ssvm, cpvm = await vm_of(again, "s-1-VM"), await vm_of(again, "v-2-VM")
    assert (ssvm.state, cpvm.state) == (InstanceState.RUNNING, InstanceState.STOPPED)
    assert "no management daemon" in (cpvm.reason or "")
    again.directory.admit(Caller("s-1-VM", "ssvm"))
    with pytest.raises(RpcError, match="v-2-VM does not run"):
        again.directory.admit(Caller("v-2-VM", "cpvm"))
    await again.reconciler.scan()
    again.directory.admit(Caller("v-2-VM", "cpvm"))
    assert [spec.name for spec in again.hypervisor.started] == ["s-1-VM", "v-2-VM", "v-2-VM"]


@pytest_twisted.ensureDeferred
async def test_system_vm_without_an_agent_is_restarted(world: Any) -> None:
    await world.reconciler.scan()
    await world.reconciler.scan()  # starts the deadline
    world.clock.advance(world.configuration.management.supervision.agent_deadline_s + 1)
    await world.reconciler.scan()
    assert sorted(world.hypervisor.stopped) == [("s-1-VM", True), ("v-2-VM", True)]
    assert len(world.hypervisor.started) == 4


@pytest_twisted.ensureDeferred
async def test_zone_without_a_store_gets_no_ssvm(world: Any) -> None:
    [store] = await world.database.read(zones.list_stores)
    await world.database.run(zones.remove_store, store.id)
    await world.reconciler.scan()
    assert list(world.hypervisor.specs) == ["v-1-VM"]


@pytest_twisted.ensureDeferred
async def test_user_vm_is_not_a_system_vm(world: Any) -> None:
    from systemvm.management.state.status import InstanceType

    user = await world.database.run(instances.create, InstanceType.USER, account_id=2, zone_id=1)
    with pytest.raises(HypervisorError, match="is not a system VM"):
        await world.lifecycle.stop(user.uuid)


@pytest_twisted.ensureDeferred
async def test_stop_waits_for_the_start_in_progress(world: Any) -> None:
    from twisted.internet.defer import Deferred

    gate: Deferred[None] = Deferred()
    entered: list[str] = []
    start = world.hypervisor.start

    async def slow(spec: Any) -> Any:
        entered.append(spec.name)
        await gate
        return await start(spec)

    world.hypervisor.start = slow
    world.reconciler.start()
    world.clock.advance(0)
    await settled(world.database)
    assert entered
    stopping = Deferred.fromCoroutine(world.reconciler.stop())
    await settled(world.database)
    assert not stopping.called
    gate.callback(None)
    await stopping
    assert list(world.hypervisor.specs) == ["s-1-VM"]  # no second start
    assert (await vm_of(world, "s-1-VM")).state is InstanceState.RUNNING
    assert not world.clock.getDelayedCalls()


class HalfOpenConnection:
    """A connection whose peer is gone: its loss is reported long after it was closed."""

    caller = Caller("s-1-VM", "ssvm")

    def __init__(self) -> None:
        self.closed_for = ""

    def close(self, why: str) -> None:
        self.closed_for = why


@pytest_twisted.ensureDeferred
async def test_late_end_of_an_old_connection_raises_no_alert(world: Any) -> None:
    await world.reconciler.scan()
    agent, connection = world.directory.agent("s-1-VM"), HalfOpenConnection()
    agent.peer = connection
    agent.hello = object()  # it had been Up, so its next start has no backoff
    world.hypervisor.end("s-1-VM", ExitReason.KILLED)
    await settled(world.database)
    assert connection.closed_for
    await world.reconciler.scan()
    assert agent.status.state is AgentState.CONNECTING
    world.directory.lost(connection, "connection reset")
    assert agent.status.state is AgentState.CONNECTING
