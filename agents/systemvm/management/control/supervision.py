# SPDX-License-Identifier: Apache-2.0
"""Polls the health of agents, and sets Alert for those that do not answer."""

from __future__ import annotations

from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.control.agent import Agent, AgentStatus, Remark
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.delay_messages import explain
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import RpcError
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.agent import HEALTH, Health
from systemvm.wire.slowness import Delay

LOAD = "load"  # the source of the remark


class AgentSupervisor:
    """Calls `agent.health` of every agent at an interval; after `missed_pings` intervals of silence: Alert.

    The silence scales with how much slower than at its best guest or host is; emulation delays no answer.
    A silent agent keeps its connection, until the channel itself gives that up: one that answers again is Up.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, directory: AgentDirectory, *, interval_s: float, missed_pings: float
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._silence_s = interval_s * missed_pings
        self._was_busy: set[str] = set()  # in the previous report
        self._silent: dict[str, AgentStatus] = {}  # what was set here, by the agent's name
        self._polling = SingleFlight[str]()  # by the agent's name
        self._loop = Periodic(clock, self._poll_all, interval_s, what="poll the health of agents")

    def start(self) -> None:
        self._loop.start(now=False)

    def stop(self) -> None:
        self._loop.stop()

    async def _poll_all(self) -> None:
        for agent in self._directory.agents():
            if agent.peer is None:
                continue
            silent_s = self._clock.seconds() - agent.heard_s
            alert_after_s = self._silence_s * self._directory.load(agent.name).slowdown
            if silent_s > alert_after_s and agent.status.state is AgentState.UP:
                silent = AgentStatus(
                    AgentState.ALERT,
                    f"has not answered for {silent_s:.0f} s",
                    f"run systemvm system-vm why {agent.name}; reboot it if this lasts",
                )
                self._silent[agent.name] = silent
                self._directory.set_status(agent, silent)
            self._polling.start(agent.name, partial(self._poll, agent))

    async def _poll(self, agent: Agent) -> None:
        try:
            agent.health = await self._directory.call(
                agent.name, HEALTH, result=Health, deadline_s=self._silence_s
            )
        except RpcError as error:
            self._log.info("no health of {name}: {error}", name=agent.name, error=str(error))
            return
        agent.heard_s = self._clock.seconds()
        self._remark_load(agent)
        if self._silent.pop(agent.name, None) == agent.status:
            await self._directory.came_up(agent)

    def _remark_load(self, agent: Agent) -> None:
        """Show beside `Up` that it is busy in two reports, which explains why calls wait."""
        had_remark = LOAD in agent.remarks
        lasts = agent.load.is_busy and agent.name in self._was_busy
        remark = Remark(*explain(Delay.BUSY, agent.load)) if lasts else None
        if agent.load.is_busy:
            self._was_busy.add(agent.name)
        else:
            self._was_busy.discard(agent.name)
        agent.remark(LOAD, remark)
        if agent.is_up and (remark is not None or had_remark):
            self._directory.set_status(agent, agent.up_status())
