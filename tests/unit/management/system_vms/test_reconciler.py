# SPDX-License-Identifier: Apache-2.0
"""Each zone keeps one SSVM and one CPVM through failures, restarts and slow starts."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from settling import settled
from systemvm.management.hypervisors.base import ExitReason
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import pods, zones
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import check_agent
from systemvm.wire import boot_arguments


@pytest_twisted.ensureDeferred
async def test_zone_gets_one_system_vm_of_each_role(host: Any) -> None:
    await host.reconciler.scan()
    await host.reconciler.scan()
    assert [spec.name for spec in host.hypervisor.started] == ["s-1-VM", "v-2-VM"]
    ssvm, cpvm = await host.vm("s-1-VM"), await host.vm("v-2-VM")
    assert (ssvm.state, cpvm.state) == (InstanceState.RUNNING, InstanceState.RUNNING)
    assert (ssvm.memory_mib, cpvm.memory_mib, cpvm.vcpus) == (512, 256, 1)
    assert (ssvm.account_id, ssvm.host_id) == (1, host.host_id)
    assert host.admission.addresses == {IPv4Address("10.11.0.101")}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("noun", ["zone", "pod", "cluster"])
async def test_a_disabled_place_gets_no_system_vm(host: Any, noun: str) -> None:
    tables: dict[str, Rows[Any]] = {
        "zone": zones.zone_rows,
        "pod": pods.pod_rows,
        "cluster": pods.cluster_rows,
    }
    rows = tables[noun]
    [place] = host.database.run_now(rows.all)
    host.database.run_now(rows.update, place.id, allocation_state=pods.DISABLED)
    noted: list[LogEvent] = []
    globalLogPublisher.addObserver(cast(ILogObserver, noted.append))
    try:
        for _ in range(2):
            await host.reconciler.scan()
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, noted.append))
    [why] = [formatEvent(event) for event in noted if "noun" in event]
    assert f"{noun} {place.name} is Disabled" in why
    assert host.hypervisor.started == []
    host.database.run_now(rows.update, place.id, allocation_state=pods.ENABLED)
    await host.reconciler.scan()
    assert [spec.name for spec in host.hypervisor.started] == ["s-1-VM", "v-2-VM"]


@pytest_twisted.ensureDeferred
async def test_machine_is_a_clone_with_its_own_credentials(host: Any) -> None:
    await host.reconciler.scan()
    spec = host.hypervisor.specs["s-1-VM"]
    assert spec.is_system
    assert (str(spec.kernel), str(spec.initrd)) == ("/images/a/vmlinuz", "/images/a/initrd")
    assert host.primary.clones[0][1].name == "disk.qcow2"
    identity = Identity.from_pem_bundle(spec.credentials[boot_arguments.IDENTITY_CREDENTIAL])
    caller = check_agent(x509.load_pem_x509_certificate(identity.certificate_pem))
    assert (caller.name, caller.role) == ("s-1-VM", "ssvm")
    assert b"PRIVATE" not in repr(spec).encode()


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
    ssvm = await host.vm("s-1-VM")
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
    assert (await host.vm("s-1-VM")).state is InstanceState.STOPPED
    await host.reconciler.scan()
    assert len(host.hypervisor.started) == 2
    host.clock.advance(5.1)
    await host.reconciler.scan()
    assert len(host.hypervisor.started) == 3


@pytest_twisted.ensureDeferred
async def test_restarted_daemon_adopts_running_and_starts_other_system_vms(host: Any) -> None:
    await host.reconciler.scan()
    del host.hypervisor.specs["v-2-VM"]  # it ended while the daemon was down
    again = host.restarted()
    await again.reconciler.adopt(await again.hypervisor.adopt())
    ssvm, cpvm = await again.vm("s-1-VM"), await again.vm("v-2-VM")
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
async def test_stop_waits_for_the_start_in_progress(host: Any) -> None:
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
    assert (await host.vm("s-1-VM")).state is InstanceState.RUNNING
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
