# SPDX-License-Identifier: Apache-2.0
"""Clocks of agents: a skew over 5 s is shown, one over 60 s is an Alert, and a correct clock ends both."""

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
    """An agent whose clock is off by `skew_s`; `settable` while its guest agent answers."""

    def __init__(self, skew_s: float) -> None:
        self.skew_s = skew_s
        self.settable = False
        self.is_silent = False

    async def call(self, method: str, params: Any, **options: Any) -> Pong:
        if self.is_silent:
            raise RpcError(METHOD_NOT_FOUND, "no ping here")
        assert method == "ping"
        return Pong(params.sent_unix_s, NOW_S + self.skew_s)

    async def set_clock(self, name: str, unix_s: float) -> None:
        if not self.settable:
            raise LookupError("no guest agent")
        self.skew_s = unix_s - NOW_S


class ControlPlane:
    def __init__(self, skew_s: float) -> None:
        self.peer = FakePeer(skew_s)
        self.directory = AgentDirectory(lambda name: True)
        self.monitor = ClockMonitor(self.directory, self.peer.set_clock, lambda: NOW_S)
        self.monitor.subscribe()
        self.agent = self.directory.expect("s-1-VM", Role.SSVM)
        self.agent.peer = self.peer  # type: ignore[assignment]
        self.agent.hello = Hello(1, "s-1-VM", "ssvm", "1", "1", "a", "b", clock_unix_s=NOW_S + skew_s)
        self.agent.status = AgentStatus(AgentState.CONNECTING)
        self.reported_up: list[str] = []

        async def up(agent: Agent) -> None:
            self.reported_up.append(agent.name)

        self.directory.on_up(up)

    def up(self) -> None:
        finish(self.monitor.prepare(self.agent))
        finish(self.directory.came_up(self.agent))

    def ping(self) -> None:
        self.monitor.heard(self.agent, NOW_S + self.peer.skew_s)


def finish(work: Any) -> None:
    """Run a coroutine that does not wait, and raise its error."""
    failures: list[Any] = []
    Deferred.fromCoroutine(work).addErrback(failures.append)
    if failures:
        raise failures[0].value


@pytest.mark.parametrize("skew_s", [0.0, 4.0, -4.9])
def test_few_seconds_of_skew_are_ignored(skew_s: float) -> None:
    plane = ControlPlane(skew_s)
    plane.up()
    assert plane.agent.status == AgentStatus(AgentState.UP)


@pytest.mark.parametrize(("skew_s", "skew"), [(7.0, "7 s ahead"), (-59.0, "59 s behind")])
def test_skew_of_over_five_seconds_is_a_remark(skew_s: float, skew: str) -> None:
    plane = ControlPlane(skew_s)
    plane.up()
    assert plane.agent.status.state is AgentState.UP
    assert plane.agent.status.reason == f"has a clock that is {skew}"
    assert plane.agent.status.hint
    plane.peer.skew_s = 0.0
    plane.ping()
    assert plane.agent.status == AgentStatus(AgentState.UP)


@pytest.mark.parametrize(
    ("skew_s", "skew"), [(61.0, "61 s ahead"), (-7300.0, "2 h behind"), (-86400.0 * 3, "3 days behind")]
)
def test_skew_of_over_a_minute_is_an_alert(skew_s: float, skew: str) -> None:
    plane = ControlPlane(skew_s)
    with pytest.raises(NotReadyError) as caught:
        plane.up()
    assert caught.value.status.state is AgentState.ALERT
    assert caught.value.status.reason == f"has a clock that is {skew}"
    assert "systemvm system-vm reboot s-1-VM" in caught.value.status.hint
    plane.peer.skew_s = 0.0
    plane.up()  # the next attempt to prepare it
    assert plane.agent.status == AgentStatus(AgentState.UP)


def test_later_skew_is_an_alert_until_it_is_corrected() -> None:
    plane = ControlPlane(0.0)
    plane.up()
    plane.peer.skew_s = 3600.0
    plane.ping()
    assert plane.agent.status.state is AgentState.ALERT
    assert plane.agent.status.reason == "has a clock that is 60 min ahead"
    plane.peer.skew_s = 1.0
    plane.ping()
    assert plane.agent.status == AgentStatus(AgentState.UP)
    assert plane.reported_up == ["s-1-VM", "s-1-VM"]  # its subscribers run again


def test_clock_is_set_through_the_guest_agent() -> None:
    plane = ControlPlane(-86400.0)
    plane.peer.settable = True
    plane.up()
    assert plane.agent.status == AgentStatus(AgentState.UP)
    plane.peer.skew_s = 30.0
    plane.ping()
    assert (plane.peer.skew_s, plane.agent.status) == (0.0, AgentStatus(AgentState.UP))


def test_correct_clock_does_not_end_another_alert() -> None:
    plane = ControlPlane(0.0)
    plane.up()
    other = AgentStatus(AgentState.ALERT, "has not answered for 90 s")
    plane.directory.set_status(plane.agent, other)
    plane.ping()
    assert plane.agent.status == other


def test_hello_gives_the_clock_of_an_agent_that_does_not_answer() -> None:
    plane = ControlPlane(90.0)
    plane.peer.is_silent = True
    with pytest.raises(NotReadyError, match="90 s ahead"):
        plane.up()


def test_clock_that_breaks_tls_is_set_without_the_channel_at_an_interval() -> None:
    plane = ControlPlane(-7200.0)
    plane.agent.peer, seconds = None, [100.0]
    set_to: list[float] = []

    async def set_clock(name: str, unix_s: float) -> None:
        set_to.append(unix_s)
        await plane.peer.set_clock(name, unix_s)

    monitor = ClockMonitor(plane.directory, set_clock, lambda: NOW_S, lambda: seconds[0])
    finish(monitor.doubted(plane.agent))  # the guest agent does not answer: only logged
    plane.peer.settable = True
    finish(monitor.doubted(plane.agent))
    assert set_to == [NOW_S]
    assert plane.peer.skew_s == -7200.0
    seconds[0] += 60.0
    finish(monitor.doubted(plane.agent))
    assert plane.peer.skew_s == 0.0
