# SPDX-License-Identifier: Apache-2.0
"""Clocks of agents: five seconds are shown, a minute is an Alert, and a right clock ends both."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from systemvm.management.control.agent import Agent, AgentStatus, NotReadyError
from systemvm.management.control.clock import ClockMonitor
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.agent import Hello, Pong
from systemvm.wire.role import Role

NOW_S = 1_800_000_000.0


class FakePeer:
    """An agent whose clock is off by `skew_s`; `settable` when its guest agent answers."""

    def __init__(self, skew_s: float) -> None:
        self.skew_s = skew_s
        self.settable = False
        self.mute = False

    async def call(self, method: str, params: Any, **options: Any) -> Pong:
        if self.mute:
            raise RpcError(METHOD_NOT_FOUND, "no ping here")
        assert method == "ping"
        return Pong(params.sent_unix_s, NOW_S + self.skew_s)

    async def set_clock(self, name: str, unix_s: float) -> None:
        if not self.settable:
            raise LookupError("no guest agent")
        self.skew_s = unix_s - NOW_S


class World:
    def __init__(self, skew_s: float) -> None:
        self.peer = FakePeer(skew_s)
        self.directory = AgentDirectory(lambda name: True)
        self.watch = ClockMonitor(self.directory, self.peer.set_clock, lambda: NOW_S)
        self.watch.subscribe()
        self.agent = self.directory.expect("s-1-VM", Role.SSVM)
        self.agent.peer = self.peer  # type: ignore[assignment]
        self.agent.hello = Hello(1, "s-1-VM", "ssvm", "1", "1", "a", "b", clock_unix_s=NOW_S + skew_s)
        self.agent.status = AgentStatus(AgentState.CONNECTING)
        self.came: list[str] = []

        async def up(agent: Agent) -> None:
            self.came.append(agent.name)

        self.directory.on_up(up)

    def up(self) -> None:
        finish(self.watch.prepare(self.agent))
        finish(self.directory.came_up(self.agent))

    def ping(self) -> None:
        self.watch.heard(self.agent, NOW_S + self.peer.skew_s)


def finish(work: Any) -> None:
    """Run what never waits, and raise what it raises."""
    failures: list[Any] = []
    Deferred.fromCoroutine(work).addErrback(failures.append)
    if failures:
        raise failures[0].value


@pytest.mark.parametrize("skew_s", [0.0, 4.0, -4.9])
def test_few_seconds_of_skew_are_ignored(skew_s: float) -> None:
    world = World(skew_s)
    world.up()
    assert world.agent.status == AgentStatus(AgentState.UP)


@pytest.mark.parametrize(("skew_s", "words"), [(7.0, "7 s ahead"), (-59.0, "59 s behind")])
def test_skew_of_over_five_seconds_is_a_remark(skew_s: float, words: str) -> None:
    world = World(skew_s)
    world.up()
    assert world.agent.status.state is AgentState.UP
    assert world.agent.status.reason == f"has a clock that is {words}"
    assert world.agent.status.hint
    world.peer.skew_s = 0.0
    world.ping()
    assert world.agent.status == AgentStatus(AgentState.UP)


@pytest.mark.parametrize(
    ("skew_s", "words"), [(61.0, "61 s ahead"), (-7300.0, "2 h behind"), (-86400.0 * 3, "3 days behind")]
)
def test_skew_of_over_a_minute_is_an_alert(skew_s: float, words: str) -> None:
    world = World(skew_s)
    with pytest.raises(NotReadyError) as caught:
        world.up()
    assert caught.value.status.state is AgentState.ALERT
    assert caught.value.status.reason == f"has a clock that is {words}"
    assert "systemvm system-vm reboot s-1-VM" in caught.value.status.hint
    world.peer.skew_s = 0.0
    world.up()  # as the next attempt to prepare it finds
    assert world.agent.status == AgentStatus(AgentState.UP)


def test_later_skew_is_an_alert_until_it_is_corrected() -> None:
    world = World(0.0)
    world.up()
    world.peer.skew_s = 3600.0
    world.ping()
    assert world.agent.status.state is AgentState.ALERT
    assert world.agent.status.reason == "has a clock that is 60 min ahead"
    world.peer.skew_s = 1.0
    world.ping()
    assert world.agent.status == AgentStatus(AgentState.UP)
    assert world.came == ["s-1-VM", "s-1-VM"]  # whoever waits for it hears of it


def test_clock_is_set_through_the_guest_agent() -> None:
    world = World(-86400.0)
    world.peer.settable = True
    world.up()
    assert world.agent.status == AgentStatus(AgentState.UP)
    world.peer.skew_s = 30.0
    world.ping()
    assert (world.peer.skew_s, world.agent.status) == (0.0, AgentStatus(AgentState.UP))


def test_correct_clock_does_not_end_another_alert() -> None:
    world = World(0.0)
    world.up()
    other = AgentStatus(AgentState.ALERT, "has not answered for 90 s")
    world.directory.set_status(world.agent, other)
    world.ping()
    assert world.agent.status == other


def test_hello_decides_for_an_agent_that_does_not_answer() -> None:
    world = World(90.0)
    world.peer.mute = True
    with pytest.raises(NotReadyError, match="90 s ahead"):
        world.up()


def test_clock_that_breaks_tls_is_set_without_the_channel_at_an_interval() -> None:
    world = World(-7200.0)
    world.agent.peer, seconds = None, [100.0]
    asked: list[float] = []

    async def set_clock(name: str, unix_s: float) -> None:
        asked.append(unix_s)
        await world.peer.set_clock(name, unix_s)

    watch = ClockMonitor(world.directory, set_clock, lambda: NOW_S, lambda: seconds[0])
    finish(watch.doubted(world.agent))  # nobody answers: a word in the log
    world.peer.settable = True
    finish(watch.doubted(world.agent))
    assert asked == [NOW_S]
    assert world.peer.skew_s == -7200.0
    seconds[0] += 60.0
    finish(watch.doubted(world.agent))
    assert world.peer.skew_s == 0.0
