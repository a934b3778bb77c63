# SPDX-License-Identifier: Apache-2.0
"""Compares what agents have with what the database says, when they connect and every few minutes.

An agent that cannot tell what it has answers an error, and then nothing is changed: a listing that failed is
not an empty one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.rpc.errors import RpcError
from systemvm.wire.role import Role

RECONCILE_EVERY_S = 120.0

Step = Callable[[Agent], Awaitable[None]]


class Reconciliation:
    """Runs each role's steps, one agent's one after the other; agents of protocol 1 have no listings."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, directory: AgentDirectory) -> None:
        self._directory = directory
        self._steps: list[tuple[Role, Step]] = []
        self._busy: set[str] = set()
        self._loop = LoopingCall(self._all)
        self._loop.clock = clock
        directory.on_up(self._came_up)

    def add(self, role: Role, step: Step) -> None:
        """Await `step(agent)` for each agent of the role that is Up; an RpcError of it is logged."""
        self._steps.append((role, step))

    def start(self) -> None:
        self._loop.start(RECONCILE_EVERY_S, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    async def reconcile(self, agent: Agent) -> None:
        """Both ways, now; nothing for an agent that is being reconciled already."""
        if agent.name in self._busy or not agent.has_listings:
            return
        self._busy.add(agent.name)
        try:
            for role, step in self._steps:
                if role is agent.role and agent.is_up:
                    await self._take(agent, step)
        finally:
            self._busy.discard(agent.name)

    async def _take(self, agent: Agent, step: Step) -> None:
        try:
            await step(agent)
        except RpcError as error:
            self._log.warn(
                "what {name} has is not known, and nothing is changed: {error}",
                name=agent.name,
                error=str(error),
            )
        except Exception:
            self._log.failure("reconciling with {name} failed", name=agent.name)

    async def _came_up(self, agent: Agent) -> None:
        # Not awaited: a store that hangs must not keep the next service from hearing of the agent.
        Deferred.fromCoroutine(self.reconcile(agent))

    def _all(self) -> None:
        for agent in self._directory.agents():
            if agent.is_up:
                Deferred.fromCoroutine(self.reconcile(agent))
