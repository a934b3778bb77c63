# SPDX-License-Identifier: Apache-2.0
"""Records refused connections: as the status of the agent, and as an event for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.host.zone import TrafficType
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control.log_rate_limiter import LogRateLimiter
from systemvm.management.state import events, instances
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.rpc.tls.refusal import Refusal
from systemvm.wire.control_failure import ControlFailure

#: The maximum number of refusals that are recorded at a time; an agent that is missed dials again.
MAX_CONCURRENT = 16


class RefusalRecorder:
    """The listener's callback for refused connections, by address and reason."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        directory: AgentDirectory,
        seconds: Callable[[], float],
        on_clock_in_doubt: Callable[[Agent], Awaitable[None]] | None = None,
    ) -> None:
        self._on_clock_in_doubt = on_clock_in_doubt
        self._database = database
        self._directory = directory
        self._seconds = seconds
        self._limiter = LogRateLimiter(seconds)
        self._in_progress: set[str] = set()

    def __call__(self, address: str, refusal: Refusal) -> None:
        """Record a refusal, unless one of this address is being recorded: repeated dialling costs no more."""
        if address in self._in_progress or len(self._in_progress) >= MAX_CONCURRENT:
            return
        self._in_progress.add(address)
        noting = Deferred.fromCoroutine(self.note(address, refusal))
        noting.addErrback(lambda failure: self._log.failure("cannot record a refusal", failure=failure))
        noting.addBoth(lambda _: self._in_progress.discard(address))

    async def note(self, address: str, refusal: Refusal) -> None:
        vm = await self._database.read(_system_vm_at, address)
        agent = self._directory.agent(vm.instance_name) if vm is not None else None
        live = vm is not None and vm.state in (InstanceState.RUNNING, InstanceState.STARTING)
        # Beside a live connection this is another program in that guest: an event, not a status of the agent.
        # A connection that was closed failed no check: it can be a diagnosis that tests the port from inside.
        if refusal.check is ControlFailure.HUNG_UP and live:
            return
        if agent is not None and live and agent.peer is None:
            agent.refused_s = self._seconds()
            self._directory.set_status(
                agent,
                AgentStatus(
                    AgentState.ALERT,
                    f"was refused ({refusal.check.value}): {refusal.text}",
                    refusal.hint,
                ),
            )
            if refusal.check is ControlFailure.OUR_CERTIFICATE and self._on_clock_in_doubt is not None:
                await self._on_clock_in_doubt(agent)
        if self._limiter.allows(address, refusal.check.value):
            who = f"{vm.instance_name} ({address})" if vm is not None else address
            await self._database.run(
                events.record,
                "CONTROL.REFUSED",
                f"refused a control connection of {who}: {refusal.check.value}: {refusal.text}",
                level="WARN",
                resource_type="SystemVm" if vm is not None else None,
                resource_uuid=vm.uuid if vm is not None else None,
            )


def _system_vm_at(connection: Connection, address: str) -> Instance | None:
    """Return the system VM whose control NIC has this address, or None."""
    found = instances.list_system(connection)
    nics = instances.nics_by_vm(connection, [vm.id for vm in found])
    return next(
        (
            vm
            for vm in found
            for nic in nics.get(vm.id, [])
            if nic.traffic_type == TrafficType.CONTROL.value and nic.address == address
        ),
        None,
    )
