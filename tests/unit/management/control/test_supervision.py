# SPDX-License-Identifier: Apache-2.0
"""The load that an agent reports is shown beside Up, and extends the timeout of a silent agent."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control.supervision import AgentSupervisor
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.call import Caller
from systemvm.rpc.core.errors import DEADLINE, RpcError
from systemvm.wire.agent import Health
from systemvm.wire.role import Role
from systemvm.wire.slowness import MachineLoad

QUIET = MachineLoad(timeout_scale=1.0)
BUSY = MachineLoad(timeout_scale=4.0, slowdown=5.0, load_1min=8.0, is_busy=True)


class FakePeer:
    """An agent that answers with its health, or not at all."""

    def __init__(self) -> None:
        self.caller = Caller("s-1-VM", Role.SSVM.value)
        self.load: MachineLoad | None = QUIET
        self.answers = True

    async def call(self, method: str, params: Any = None, **more: Any) -> Health:
        if not self.answers:
            raise RpcError(DEADLINE, "no answer")
        return Health(1.0, 0.0, 1, 1, 1, 1, [], 0, load=self.load)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def agent_and_peer(clock: Clock) -> tuple[Agent, FakePeer]:
    directory = AgentDirectory(lambda name: True, lambda: 1.0)
    peer = FakePeer()
    agent = directory.expect("s-1-VM", Role.SSVM)
    agent.peer = peer  # type: ignore[assignment]
    directory.set_status(agent, AgentStatus(AgentState.UP))
    AgentSupervisor(clock, directory, interval_s=10.0, missed_pings=2.5).start()
    return agent, peer


def test_busy_machine_is_up_with_a_remark(clock: Clock, agent_and_peer: tuple[Agent, FakePeer]) -> None:
    agent, peer = agent_and_peer
    clock.advance(10)
    assert agent.status == AgentStatus(AgentState.UP)
    peer.load = BUSY
    clock.advance(10)
    assert agent.status == AgentStatus(AgentState.UP), "a short load is not reported"
    clock.advance(10)
    assert agent.status.state is AgentState.UP
    assert agent.status.reason == "is busy: load 8.0, 5 times slower than at its best"
    peer.load = QUIET
    clock.advance(10)
    assert agent.status == AgentStatus(AgentState.UP)


def test_older_agent_reports_no_load(clock: Clock, agent_and_peer: tuple[Agent, FakePeer]) -> None:
    agent, peer = agent_and_peer
    peer.load = None
    clock.advance(10)
    assert agent.status == AgentStatus(AgentState.UP)
    assert agent.load == MachineLoad()


@pytest.mark.parametrize(("load", "alert_after_s"), [(QUIET, 30), (BUSY, 130)])
def test_slow_machine_gets_a_later_alert_for_silence(
    clock: Clock, agent_and_peer: tuple[Agent, FakePeer], load: MachineLoad, alert_after_s: int
) -> None:
    agent, peer = agent_and_peer
    peer.load = load
    clock.advance(10)
    peer.answers = False
    waited_s = 0
    while agent.status.state is AgentState.UP:
        clock.advance(10)
        waited_s += 10
    assert waited_s == alert_after_s
