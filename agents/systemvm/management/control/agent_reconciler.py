# SPDX-License-Identifier: Apache-2.0
"""Reconciles agents with the database, when they connect and every few minutes.

An agent that cannot list what it has answers an error, and then nothing is changed: a failed listing is not
an empty one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.rpc.core.errors import RpcError
from systemvm.service.backoff import KeyedBackoff
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.role import Role

RECONCILE_EVERY_S = 120.0

Step = Callable[[Agent], Awaitable[None]]


class AgentReconciler:
    """Runs the steps of each role, one after another for each agent; agents of protocol 1 have no
    listings.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, directory: AgentDirectory) -> None:
        self._directory = directory
        self._steps: list[tuple[Role, Step]] = []
        self._running = SingleFlight[str]()  # by the agent's name
        self._backoff = KeyedBackoff[str](
            clock.seconds, first_s=RECONCILE_EVERY_S, last_s=8 * RECONCILE_EVERY_S, jitter=0.2
        )
        self._loop = Periodic(clock, self._reconcile_all, RECONCILE_EVERY_S, what="reconcile with agents")

    def subscribe(self) -> None:
        """Reconcile with every agent that comes up."""
        self._directory.on_up(self._came_up)

    def add(self, role: Role, step: Step) -> None:
        """Add a step for each agent of the role that is Up; an RpcError of it is logged."""
        self._steps.append((role, step))

    def start(self) -> None:
        self._loop.start(now=False)

    def stop(self) -> None:
        self._loop.stop()

    async def reconcile(self, agent: Agent) -> None:
        """Reconcile both ways now; does nothing while that is in progress for the agent."""
        if agent.has_listings and agent.name not in self._running:
            await self._running.run(agent.name, partial(self._reconcile, agent))

    async def _reconcile(self, agent: Agent) -> None:
        steps = [step for role, step in self._steps if role is agent.role]
        done = [await self._run_step(agent, step) for step in steps if agent.is_up]
        if all(done):
            self._backoff.succeeded(agent.name)
        else:
            self._backoff.failed(agent.name)

    async def _run_step(self, agent: Agent, step: Step) -> bool:
        """Run a step and return whether it succeeded."""
        try:
            await step(agent)
        except RpcError as error:
            self._log.warn(
                "cannot reconcile with {name}, nothing is changed: {error}",
                name=agent.name,
                error=str(error),
            )
        except Exception:
            self._log.failure("cannot reconcile with {name}", name=agent.name)
        else:
            return True
        return False

    async def _came_up(self, agent: Agent) -> None:
        # Not awaited: a store that hangs must not delay the next receiver.
        Deferred.fromCoroutine(self.reconcile(agent))

    async def _reconcile_all(self) -> None:
        """Reconcile with all agents concurrently, except those in backoff."""
        for agent in self._directory.agents():
            if agent.is_up and not self._backoff.due_in_s(agent.name):
                Deferred.fromCoroutine(self.reconcile(agent))
