# SPDX-License-Identifier: Apache-2.0
"""The agents of this host: who is expected, who is there, and how to call one."""

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
from systemvm.wire.agent import LIFELINE, Hello
from systemvm.wire.protocol import Fit
from systemvm.wire.role import Role
from systemvm.wire.slowness import MachineLoad
from systemvm.wire.vm_name import VmName

T = TypeVar("T")
#: What an agent that said hello waits for, and what to do when it waits for long.
_SET_UP = {
    Role.SSVM: (
        "is being set up: it mounts secondary storage",
        "this lasts some seconds; over a minute, and the NFS server does not answer: systemvm check shows it",
    ),
    Role.CPVM: ("is being set up: it gets its certificate", "nothing: this lasts some seconds"),
}

#: Brings an agent from Connecting to Up: mounts a store, hands over a certificate; tried again if it fails.
Preparation = Callable[[Agent], Awaitable[None]]
UpCallback = Callable[[Agent], Awaitable[None]]
DownCallback = Callable[[Agent, str], None]
StatusCallback = Callable[[Agent], None]
#: RpcError when the certificate of a caller is worth nothing.
Guard = Callable[[Caller], None]


class AgentDirectory:
    """Agents by the name of their VM. Only VMs that were announced by `expect`, and live, may connect."""

    _log = Logger()

    def __init__(
        self, has_process: Callable[[str], bool], timeout_scale: TimeoutScale = slowness.timeout_scale
    ) -> None:
        """`timeout_scale` is what waits for any guest of this host are multiplied by."""
        #: By a VM's name, as its hypervisor sees it: rows lag behind, and after a restart they may be wrong.
        self._has_process = has_process
        self._timeout_scale = timeout_scale
        self._agents: dict[VmName, Agent] = {}
        self._preparations: list[tuple[Role, Preparation]] = []
        self._up: list[UpCallback] = []
        self._down: list[DownCallback] = []
        self._status: list[StatusCallback] = []
        self._guards: list[Guard] = []

    # --- who is expected

    def expect(self, name: str, role: Role, status: AgentStatus | None = None) -> Agent:
        """A VM of this name exists: its agent may connect. Announcing it again changes nothing."""
        agent = self._agents.get(VmName(name))
        if agent is None:
            agent = Agent(name, role, status or AgentStatus(AgentState.DISCONNECTED, "has not started yet"))
            self._agents[VmName(name)] = agent
        return agent

    def forget(self, name: str, why: str) -> None:
        """The VM is gone, and its certificate is worth nothing from here on."""
        agent = self._agents.pop(VmName(name), None)
        if agent is not None and agent.peer is not None:
            agent.peer.close(why)

    def admit(self, caller: Caller) -> None:
        """RpcError unless `caller` is the agent of a VM that there is, and that lives."""
        agent = self._agents.get(VmName(caller.name))
        if agent is None or agent.role.value != caller.role:
            raise RpcError(
                FORBIDDEN,
                f"there is no system VM {caller.name} of role {caller.role} here",
                {"hint": "the VM was destroyed, or belongs to another host"},
            )
        if not self._has_process(agent.name):
            # Its certificate is good for a day, and a VM that ended cannot be who shows it.
            raise RpcError(
                FORBIDDEN,
                f"the system VM {agent.name} does not run: this is not its agent",
                {"hint": "an agent is let in from the moment that its virtual machine is started"},
            )
        self.recheck(caller)

    def guard(self, guard: Guard) -> None:
        """Ask `guard` of every caller that wants to come in, and of every one that is in."""
        self._guards.append(guard)

    def recheck(self, caller: Caller) -> None:
        """RpcError when a caller's certificate is not, or no longer, good enough to be connected."""
        for guard in self._guards:
            guard(caller)

    # --- who is there

    def agent(self, name: str) -> Agent | None:
        return self._agents.get(VmName(name))

    def agents(self, role: Role | None = None) -> list[Agent]:
        return [agent for agent in self._agents.values() if role in (None, agent.role)]

    def peer(self, name: str) -> Connection | None:
        """The connection to an agent, if it is there."""
        agent = self.agent(name)
        return None if agent is None else agent.peer

    def up(self, role: Role) -> list[str]:
        """Names of the VMs of a role whose agents are Up."""
        return [agent.name for agent in self.agents(role) if agent.is_up]

    def timeout_scale(self, name: str) -> float:
        """What waits for an agent are multiplied by: the slower of this host's guests and its own report."""
        agent = self.agent(name)
        return max(self._timeout_scale(), 1.0 if agent is None else agent.load.timeout_scale)

    def load(self, name: str) -> MachineLoad:
        """How busy an agent's machine is: the busier of what it reported and what this host measures."""
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
        """Call an agent's method; RpcError NOT_CONNECTED, with its state, when it is not there."""
        agent = self.agent(name)
        if agent is None:
            raise RpcError(NOT_CONNECTED, f"there is no system VM named {name}")
        if agent.peer is None:
            why = f": {agent.status.reason}" if agent.status.reason else ""
            raise RpcError(
                NOT_CONNECTED,
                f"the agent of {name} is {agent.status.state.value}{why}",
                {"hint": agent.status.hint or f"systemvm check {name} tells more"},
            )
        if agent.fit is not Fit.GOOD and method not in LIFELINE and not method.startswith("rpc."):
            raise RpcError(
                NOT_CONNECTED,
                f"the agent of {name} {agent.status.reason}",
                {"hint": agent.status.hint},
            )
        return await agent.peer.call(
            method, params, result=result, deadline_s=deadline_s, request_id=request_id
        )

    # --- what services hang on to

    def prepare(self, role: Role, preparation: Preparation) -> None:
        """Run this whenever an agent of the role has said hello, before it counts as Up."""
        self._preparations.append((role, preparation))

    def preparations(self, role: Role) -> list[Preparation]:
        return [preparation for wanted, preparation in self._preparations if wanted is role]

    def on_up(self, callback: UpCallback) -> None:
        """Await `callback(agent)` each time that an agent becomes Up: resume what it worked on."""
        self._up.append(callback)

    def on_down(self, callback: DownCallback) -> None:
        """Call `callback(agent, reason)` each time that the connection of an agent is lost."""
        self._down.append(callback)

    def on_status(self, callback: StatusCallback) -> None:
        """Call `callback(agent)` at every change of an agent's state or reason."""
        self._status.append(callback)

    # --- what the sessions report

    def connected(self, agent: Agent, peer: Connection, hello: Hello) -> None:
        """An agent said hello: it is Connecting, and an older connection of its name ends."""
        if agent.hello is not None and hello.instance not in ("", agent.hello.instance):
            agent.new_process_at = now()
        older, agent.peer, agent.hello = agent.peer, peer, hello
        agent.remarks.clear()
        agent.refused_s = None
        if older is not None and older is not peer:
            older.close("a newer connection of the same agent took over")
        self.set_status(agent, AgentStatus(AgentState.CONNECTING, *_SET_UP[agent.role]))

    async def came_up(self, agent: Agent) -> None:
        """An agent is ready for work: tell everybody, one after the other."""
        self.set_status(agent, agent.up_status())
        for callback in self._up:
            try:
                await callback(agent)
            except Exception:
                self._log.failure("a service did not take note that {name} is up", name=agent.name)

    def lost(self, peer: Connection, why: str) -> None:
        """A connection ended; nothing happens if it was not the agent's newest."""
        agent = self.agent(peer.caller.name)
        if agent is None or agent.peer is not peer:
            return
        if agent.status.state is not AgentState.DISCONNECTED:
            hint = f"it dials again by itself; if this lasts: systemvm system-vm why {agent.name}"
            self.set_status(agent, AgentStatus(AgentState.ALERT, f"lost its connection: {why}", hint))
        self._let_go(agent, why)

    def disconnected(self, name: str, reason: str) -> None:
        """Its VM is being stopped, by us or by itself: what follows is no alert.

        The connection is not the agent's any more at once: the other end of one to a machine that lost its
        power never says goodbye, and its end may come when the next start is under way.
        """
        agent = self.agent(name)
        if agent is None:
            return
        self.set_status(agent, AgentStatus(AgentState.DISCONNECTED, reason))
        peer = agent.peer
        if peer is not None:
            self._let_go(agent, reason)
            peer.close(reason)

    def _let_go(self, agent: Agent, why: str) -> None:
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
