# SPDX-License-Identifier: Apache-2.0
"""The agents of this host: which exist, which are connected, and how to call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from twisted.logger import Logger

from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.delay_messages import to_load
from systemvm.management.state.columns import now
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.call import Caller, Connection
from systemvm.rpc.core.errors import FORBIDDEN, NOT_CONNECTED, RpcError
from systemvm.service import slowness
from systemvm.service.slowness import TimeoutScale
from systemvm.wire.agent import VERSION_INDEPENDENT_METHODS, Capability, Hello
from systemvm.wire.protocol import OLDEST, Compatibility
from systemvm.wire.role import Role
from systemvm.wire.slowness import MachineLoad
from systemvm.wire.vm_name import VmName

T = TypeVar("T")
#: Reason and hint while an agent is prepared after its hello.
_SET_UP = {
    Role.SSVM: (
        "is being set up: it mounts secondary storage",
        "wait some seconds; after a minute run systemvm check: the NFS server might not answer",
    ),
    Role.CPVM: ("is being set up: it gets its certificate", "wait some seconds"),
}

#: Brings an agent from Connecting to Up: mounts a store, sends a certificate; retried when it fails.
Preparation = Callable[[Agent], Awaitable[None]]
UpCallback = Callable[[Agent], Awaitable[None]]
DownCallback = Callable[[Agent, str], None]
StatusCallback = Callable[[Agent], None]
#: Raises RpcError when the certificate of a caller is not valid.
Guard = Callable[[Caller], None]


class AgentDirectory:
    """Agents by the name of their VM. Only agents of VMs that `expect` announced and that run are
    admitted.
    """

    _log = Logger()

    def __init__(
        self, has_process: Callable[[str], bool], timeout_scale: TimeoutScale = slowness.timeout_scale
    ) -> None:
        """`timeout_scale` multiplies timeouts that wait for a guest of this host."""
        #: By a VM's name, from its hypervisor: rows lag behind and can be wrong after a restart.
        self._has_process = has_process
        self._timeout_scale = timeout_scale
        self._agents: dict[VmName, Agent] = {}
        self._preparations: list[tuple[Role, Preparation]] = []
        self._up: list[UpCallback] = []
        self._down: list[DownCallback] = []
        self._status: list[StatusCallback] = []
        self._guards: list[Guard] = []

    # --- which agents exist

    def expect(self, name: str, role: Role, status: AgentStatus | None = None) -> Agent:
        """Announce a VM, so that its agent can connect; repeating it has no effect."""
        agent = self._agents.get(VmName(name))
        if agent is None:
            agent = Agent(name, role, status or AgentStatus(AgentState.DISCONNECTED, "has not started yet"))
            self._agents[VmName(name)] = agent
        return agent

    def forget(self, name: str, why: str) -> None:
        """Remove a destroyed VM and close its connection; its certificate is not valid from now on."""
        agent = self._agents.pop(VmName(name), None)
        if agent is not None and agent.peer is not None:
            agent.peer.close(why)

    def admit(self, caller: Caller) -> None:
        """Check that a caller is the agent of a VM that exists and runs.

        Raises: RpcError when it is not, or its certificate is not valid.
        """
        agent = self._agents.get(VmName(caller.name))
        if agent is None or agent.role.value != caller.role:
            raise RpcError(
                FORBIDDEN,
                f"host has no system VM {caller.name} of role {caller.role}",
                {"hint": "connect to the host of the VM, unless it was destroyed"},
            )
        if not self._has_process(agent.name):
            # Its certificate is valid for a day, but a VM that has ended cannot use it.
            raise RpcError(
                FORBIDDEN,
                f"system VM {agent.name} does not run: this is not its agent",
                {"hint": "start the virtual machine first"},
            )
        self.recheck(caller)

    def guard(self, guard: Guard) -> None:
        """Check every caller with `guard`, at its connection and at each recheck."""
        self._guards.append(guard)

    def recheck(self, caller: Caller) -> None:
        """Check the certificate of a caller.

        Raises: RpcError when it is not valid, or no longer.
        """
        for guard in self._guards:
            guard(caller)

    # --- which agents are connected

    def agent(self, name: str) -> Agent | None:
        return self._agents.get(VmName(name))

    def agents(self, role: Role | None = None) -> list[Agent]:
        return [agent for agent in self._agents.values() if role in (None, agent.role)]

    def peer(self, name: str) -> Connection | None:
        """Return the connection to an agent, or None."""
        agent = self.agent(name)
        return None if agent is None else agent.peer

    def up(self, role: Role, since: int = OLDEST) -> list[str]:
        """Return the names of the VMs of a role whose agents are Up and speak protocol `since`."""
        return [agent.name for agent in self.agents(role) if agent.is_up and agent.speaks(since)]

    def can(self, name: str, capability: Capability) -> bool:
        """Return whether an agent has said that it can do something."""
        agent = self.agent(name)
        return agent is not None and agent.hello is not None and capability.value in agent.hello.capabilities

    def timeout_scale(self, name: str) -> float:
        """Return the factor for timeouts of an agent: the maximum of this host's guests and its own
        report.
        """
        agent = self.agent(name)
        return max(self._timeout_scale(), 1.0 if agent is None else agent.load.timeout_scale)

    def load(self, name: str) -> MachineLoad:
        """Return the load of an agent's machine: the higher of its own report and this host's."""
        agent = self.agent(name)
        host = to_load(slowness.METER.snapshot())
        return host if agent is None else max(host, agent.load, key=lambda load: load.slowdown)

    @overload
    async def call(
        self,
        name: str,
        method: str,
        params: Any = None,
        *,
        result: type[T],
        deadline_s: float = 30.0,
        request_id: str | None = None,
    ) -> T: ...
    @overload
    async def call(
        self,
        name: str,
        method: str,
        params: Any = None,
        *,
        result: None = None,
        deadline_s: float = 30.0,
        request_id: str | None = None,
    ) -> Any: ...
    async def call(
        self,
        name: str,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = 30.0,
        request_id: str | None = None,
    ) -> Any:
        """Call a method of an agent.

        Raises: RpcError, NOT_CONNECTED with its state when the agent is not connected.
        """
        agent = self.agent(name)
        if agent is None:
            raise RpcError(NOT_CONNECTED, f"there is no system VM named {name}")
        if agent.peer is None:
            why = f": {agent.status.reason}" if agent.status.reason else ""
            raise RpcError(
                NOT_CONNECTED,
                f"agent of {name} is {agent.status.state.value}{why}",
                {"hint": agent.status.hint or f"run systemvm check {name}"},
            )
        if (
            agent.fit is not Compatibility.GOOD
            and method not in VERSION_INDEPENDENT_METHODS
            and not method.startswith("rpc.")
        ):
            raise RpcError(
                NOT_CONNECTED,
                f"agent of {name} {agent.status.reason}",
                {"hint": agent.status.hint},
            )
        return await agent.peer.call(
            method, params, result=result, deadline_s=deadline_s, request_id=request_id
        )

    # --- subscriptions of services

    def prepare(self, role: Role, preparation: Preparation) -> None:
        """Run `preparation(agent)` after each hello of an agent of the role, before it is Up."""
        self._preparations.append((role, preparation))

    def preparations(self, role: Role) -> list[Preparation]:
        return [preparation for each, preparation in self._preparations if each is role]

    def on_up(self, callback: UpCallback) -> None:
        """Await `callback(agent)` each time that an agent becomes Up."""
        self._up.append(callback)

    def on_down(self, callback: DownCallback) -> None:
        """Call `callback(agent, reason)` each time that the connection of an agent is lost."""
        self._down.append(callback)

    def on_status(self, callback: StatusCallback) -> None:
        """Call `callback(agent)` at every change of an agent's state or reason."""
        self._status.append(callback)

    # --- events of connections

    def connected(self, agent: Agent, peer: Connection, hello: Hello) -> None:
        """Handle a hello: the agent is Connecting, and an older connection of its name is closed."""
        if agent.hello is not None and hello.instance not in ("", agent.hello.instance):
            agent.new_process_at = now()
        older, agent.peer, agent.hello = agent.peer, peer, hello
        agent.remarks.clear()
        agent.refused_s = None
        if older is not None and older is not peer:
            older.close("a newer connection of the same agent replaced this one")
        self.set_status(agent, AgentStatus(AgentState.CONNECTING, *_SET_UP[agent.role]))

    async def came_up(self, agent: Agent) -> None:
        """Handle an agent that is ready for work: call the receivers one after another."""
        self.set_status(agent, agent.up_status())
        for callback in self._up:
            try:
                await callback(agent)
            except Exception:
                self._log.failure("a receiver failed when {name} came up", name=agent.name)

    def lost(self, peer: Connection, why: str) -> None:
        """Handle the end of a connection; does nothing unless it is the agent's newest."""
        agent = self.agent(peer.caller.name)
        if agent is None or agent.peer is not peer:
            return
        if agent.status.state is not AgentState.DISCONNECTED:
            hint = f"wait until it dials again; if this lasts, run systemvm system-vm why {agent.name}"
            self.set_status(agent, AgentStatus(AgentState.ALERT, f"lost its connection: {why}", hint))
        self._release(agent, why)

    def disconnected(self, name: str, reason: str) -> None:
        """Handle the stop of a VM, which is not an alert.

        The connection is released at once: a machine that lost its power never closes it, and its end might
        be detected during the next start.
        """
        agent = self.agent(name)
        if agent is None:
            return
        self.set_status(agent, AgentStatus(AgentState.DISCONNECTED, reason))
        peer = agent.peer
        if peer is not None:
            self._release(agent, reason)
            peer.close(reason)

    def _release(self, agent: Agent, why: str) -> None:
        agent.peer = None
        agent.health = None
        for callback in self._down:
            callback(agent, why)

    def set_status(self, agent: Agent, status: AgentStatus) -> None:
        if agent.status == status:
            return
        agent.status = status
        self._log.info(
            "agent of {name} is {state} {reason}",
            name=agent.name,
            state=status.state.value,
            reason=status.reason,
        )
        for callback in self._status:
            callback(agent)
