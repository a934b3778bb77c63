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


async def vm_of(host: Any, name: str) -> instances.Instance:
    found: instances.Instance = await host.database.read(instances.by_instance_name, name)
    return found


@pytest_twisted.ensureDeferred
async def test_zone_gets_one_system_vm_of_each_role(host: Any) -> None:
    await host.reconciler.scan()
    await host.reconciler.scan()
    assert [spec.name for spec in host.hypervisor.started] == ["s-1-VM", "v-2-VM"]
    ssvm, cpvm = await vm_of(host, "s-1-VM"), await vm_of(host, "v-2-VM")
    assert (ssvm.state, cpvm.state) == (InstanceState.RUNNING, InstanceState.RUNNING)
    assert (ssvm.memory_mib, cpvm.memory_mib, cpvm.vcpus) == (512, 256, 1)
    assert (ssvm.account_id, ssvm.host_id) == (1, host.host_id)
    assert host.admission.addresses == {IPv4Address("10.11.0.101")}


@pytest_twisted.ensureDeferred
async def test_machine_is_a_clone_with_its_own_credentials(host: Any) -> None:
    await host.reconciler.scan()
    spec = host.hypervisor.specs["s-1-VM"]
    assert spec.is_system
    assert spec.vnc is None
    assert (str(spec.kernel), str(spec.initrd)) == ("/images/a/vmlinuz", "/images/a/initrd")
    assert host.primary.clones[0][1].name == "disk.qcow2"
    identity = Identity.from_pem_bundle(spec.credentials[boot_arguments.IDENTITY_CREDENTIAL])
    caller = check_agent(x509.load_pem_x509_certificate(identity.certificate_pem))
    assert (caller.name, caller.role) == ("s-1-VM", "ssvm")
    assert b"PRIVATE" not in repr(spec).encode()


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
            admitted.append((await vm_of(host, "s-1-VM")).state)
        return status

    async def stop(name: str, **how: Any) -> None:
        host.directory.admit(agent)  # it can connect until it ends
        admitted.append((await vm_of(host, "s-1-VM")).state)
        await end(name, **how)

    host.hypervisor.start, host.hypervisor.stop = start, stop
    await host.reconciler.scan()
    vm = await vm_of(host, "s-1-VM")
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
async def test_reset_in_the_guest_restarts_it_with_fresh_credentials(host: Any) -> None:
    await host.reconciler.scan()
    before = host.hypervisor.specs["s-1-VM"]
    host.directory.agent("s-1-VM").hello = object()  # it had come up
    host.reconciler.start()
    host.clock.advance(0)  # the first scan, whose timer is not the awaited one
    host.hypervisor.end("s-1-VM", ExitReason.GUEST_RESET)
    await settled(host.database)
    assert any(call.getTime() < 2 for call in host.clock.getDelayedCalls())
    host.clock.advance(1.5)
    await settled(host.database)
    assert "s-1-VM" in host.hypervisor.specs
    after = host.hypervisor.specs["s-1-VM"]
    assert (
        after.credentials[boot_arguments.IDENTITY_CREDENTIAL]
        != before.credentials[boot_arguments.IDENTITY_CREDENTIAL]
    )
    assert (
        after.credentials[boot_arguments.CMDLINE_CREDENTIAL]
        == before.credentials[boot_arguments.CMDLINE_CREDENTIAL]
    )
    assert after.disk == before.disk
    assert len(host.primary.clones) == 2
    await host.reconciler.stop()


@pytest_twisted.ensureDeferred
async def test_failed_start_has_a_reason_and_a_growing_backoff(host: Any) -> None:
    host.hypervisor.failing = HypervisorError("no memory is left", "stop a machine")
    await host.reconciler.scan()
    ssvm = await vm_of(host, "s-1-VM")
    assert ssvm.state is InstanceState.STOPPED
    assert ssvm.reason == "could not be started: no memory is left"
    assert ssvm.hint == "stop a machine"
    host.hypervisor.failing = None
    await host.reconciler.scan()
    assert host.hypervisor.started == []  # the backoff is 5 s
    host.clock.advance(5.1)
    await host.reconciler.scan()
    assert [spec.name for spec in host.hypervisor.started] == ["s-1-VM", "v-2-VM"]  # with the same names


@pytest_twisted.ensureDeferred
async def test_end_before_hello_is_restarted_with_a_backoff(host: Any) -> None:
    await host.reconciler.scan()
    host.hypervisor.end("s-1-VM", ExitReason.GUEST_PANIC)
    await settled(host.database)
    assert (await vm_of(host, "s-1-VM")).state is InstanceState.STOPPED
    await host.reconciler.scan()
    assert len(host.hypervisor.started) == 2
    host.clock.advance(5.1)
    await host.reconciler.scan()
    assert len(host.hypervisor.started) == 3


@pytest_twisted.ensureDeferred
async def test_stopped_system_vm_starts_again_with_its_name_and_addresses(host: Any) -> None:
    await host.reconciler.scan()
    vm = await vm_of(host, "s-1-VM")
    had = await host.database.read(addresses.of_vm, vm.id)
    stopped = await host.lifecycle.stop(vm.uuid)
    assert stopped.state is InstanceState.STOPPED
    assert host.directory.agent("s-1-VM").status.state is AgentState.DISCONNECTED
    assert host.hypervisor.stopped == [("s-1-VM", False)]
    await host.reconciler.scan()
    assert (await vm_of(host, "s-1-VM")).state is InstanceState.RUNNING
    assert await host.database.read(addresses.of_vm, vm.id) == had


@pytest_twisted.ensureDeferred
async def test_failed_stop_leaves_it_running_with_a_reason(host: Any) -> None:
    await host.reconciler.scan()
    vm = await vm_of(host, "s-1-VM")

    async def stuck(name: str, **how: Any) -> None:
        raise HypervisorError("QEMU (pid 7) cannot be ended", "look at the host's disks")

    host.hypervisor.stop = stuck
    with pytest.raises(HypervisorError, match="cannot be ended"):
        await host.lifecycle.stop(vm.uuid)
    after = await vm_of(host, "s-1-VM")
    assert after.state is InstanceState.RUNNING
    assert after.reason == "It could not be stopped: QEMU (pid 7) cannot be ended"
    assert after.hint == "look at the host's disks"


@pytest_twisted.ensureDeferred
async def test_reboot_keeps_the_public_address_and_can_be_forced(host: Any) -> None:
    await host.reconciler.scan()
    vm = await vm_of(host, "v-2-VM")
    running = await host.lifecycle.reboot(vm.uuid, forced=True)
    assert running.state is InstanceState.RUNNING
    assert host.hypervisor.stopped == [("v-2-VM", True)]
    assert (await host.database.read(addresses.of_vm, vm.id))["public"] == "203.0.113.101"
    kinds = [event.type for event in await host.database.read(events.newest, 3)]
    assert kinds == ["PROXY.REBOOT", "PROXY.START", "PROXY.STOP"]


@pytest_twisted.ensureDeferred
async def test_restarted_cpvm_has_no_sessions(host: Any) -> None:
    await host.reconciler.scan()
    ssvm, cpvm = await vm_of(host, "s-1-VM"), await vm_of(host, "v-2-VM")
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
    assert (await vm_of(host, "v-2-VM")).console_sessions == 0


@pytest_twisted.ensureDeferred
async def test_destroyed_system_vm_is_replaced_under_a_new_name(host: Any) -> None:
    await host.reconciler.scan()
    vm = await vm_of(host, "v-2-VM")
    await host.lifecycle.destroy(vm.uuid)
    with pytest.raises(NotFoundError):
        await vm_of(host, "v-2-VM")
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
    vm = await vm_of(host, "s-1-VM")
    host.images.rebuild()
    await host.lifecycle.reboot(vm.uuid)
    assert str(host.hypervisor.specs["s-1-VM"].kernel) == "/images/b/vmlinuz"
    assert str(host.primary.clones[-1][1]) == "/images/b/disk.qcow2"
    assert (await vm_of(host, "s-1-VM")).image_sha256 == "b" * 64


@pytest_twisted.ensureDeferred
async def test_restarted_daemon_adopts_running_and_starts_other_system_vms(host: Any) -> None:
    await host.reconciler.scan()
    del host.hypervisor.specs["v-2-VM"]  # it ended while the daemon was down
    again = host.restarted()
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
async def test_system_vm_without_an_agent_is_restarted(host: Any) -> None:
    await host.reconciler.scan()
    await host.reconciler.scan()  # starts the deadline
    host.clock.advance(host.configuration.management.supervision.agent_deadline_s + 1)
    await host.reconciler.scan()
    assert sorted(host.hypervisor.stopped) == [("s-1-VM", True), ("v-2-VM", True)]
    assert len(host.hypervisor.started) == 4


@pytest_twisted.ensureDeferred
async def test_zone_without_a_store_gets_no_ssvm(host: Any) -> None:
    [store] = await host.database.read(zones.list_stores)
    await host.database.run(zones.remove_store, store.id)
    await host.reconciler.scan()
    assert list(host.hypervisor.specs) == ["v-1-VM"]


@pytest_twisted.ensureDeferred
async def test_user_vm_is_not_a_system_vm(host: Any) -> None:
    from systemvm.management.state.status import InstanceType

    user = await host.database.run(instances.create, InstanceType.USER, account_id=2, zone_id=1)
    with pytest.raises(HypervisorError, match="is not a system VM"):
        await host.lifecycle.stop(user.uuid)


@pytest_twisted.ensureDeferred
async def test_stop_waits_for_the_start_in_progress(host: Any) -> None:
    from twisted.internet.defer import Deferred

    gate: Deferred[None] = Deferred()
    entered: list[str] = []
    start = host.hypervisor.start

    async def slow(spec: Any) -> Any:
        entered.append(spec.name)
        await gate
        return await start(spec)

    host.hypervisor.start = slow
    host.reconciler.start()
    host.clock.advance(0)
    await settled(host.database)
    assert entered
    stopping = Deferred.fromCoroutine(host.reconciler.stop())
    await settled(host.database)
    assert not stopping.called
    gate.callback(None)
    await stopping
    assert list(host.hypervisor.specs) == ["s-1-VM"]  # no second start
    assert (await vm_of(host, "s-1-VM")).state is InstanceState.RUNNING
    assert not host.clock.getDelayedCalls()


class HalfOpenConnection:
    """A connection whose peer is gone: its loss is reported long after it was closed."""

    caller = Caller("s-1-VM", "ssvm")

    def __init__(self) -> None:
        self.closed_for = ""

    def close(self, why: str) -> None:
        self.closed_for = why


@pytest_twisted.ensureDeferred
async def test_late_end_of_an_old_connection_raises_no_alert(host: Any) -> None:
    await host.reconciler.scan()
    agent, connection = host.directory.agent("s-1-VM"), HalfOpenConnection()
    agent.peer = connection
    agent.hello = object()  # it had been Up, so its next start has no backoff
    host.hypervisor.end("s-1-VM", ExitReason.KILLED)
    await settled(host.database)
    assert connection.closed_for
    await host.reconciler.scan()
    assert agent.status.state is AgentState.CONNECTING
    host.directory.lost(connection, "connection reset")
    assert agent.status.state is AgentState.CONNECTING
