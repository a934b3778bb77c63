# SPDX-License-Identifier: Apache-2.0
"""How far the clocks of agents are off, who is told, and putting them right.

A guest is given the time with its boot arguments and sets its clock before its first TLS handshake, so that a
wrong RTC never keeps it from connecting. What goes wrong later is seen here: in `hello` and in each ping.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.control.agent import Agent, AgentStatus, NotReadyError, Remark
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.agent import PING, Ping, Pong
from systemvm.wire.role import Role

SHOWN_S = 5.0
ALERT_S = 60.0
PING_DEADLINE_S = 15.0
#: How often at most the clock of a guest is set that takes the daemon's certificate for bad.
DOUBTED_AGAIN_S = 60.0
REMARK = "clock"

#: Sets a guest's clock to this UNIX time, past the channel (qemu-guest-agent); any exception: it could not.
SetClock = Callable[[str, float], Awaitable[None]]


async def _cannot(name: str, unix_s: float) -> None:
    raise LookupError("nothing here can set the clock of a guest")


class ClockMonitor:
    """Measures by a round trip whenever a clock looks wrong; over a minute is an Alert until it is right."""

    _log = Logger()

    def __init__(
        self,
        directory: AgentDirectory,
        set_clock: SetClock = _cannot,
        clock: Callable[[], float] = time.time,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._doubted_s: dict[str, float] = {}
        self._directory = directory
        self._set_clock = set_clock
        self._clock = clock
        self._looking: set[str] = set()

    def subscribe(self) -> None:
        """Have the directory run `prepare` for agents of both roles."""
        for role in (Role.SSVM, Role.CPVM):
            self._directory.prepare(role, self.prepare)

    async def prepare(self, agent: Agent) -> None:
        """The first thing after hello: NotReadyError while the clock is more than a minute off."""
        hello = agent.hello
        skew_s = hello.clock_unix_s - self._clock() if hello is not None else 0.0
        if abs(skew_s) > SHOWN_S:
            skew_s = await self._measured_and_corrected(agent, skew_s)
        agent.remark(REMARK, remark_on(skew_s))
        if abs(skew_s) > ALERT_S:
            raise NotReadyError(_alert(skew_s, agent.name))

    def heard(self, agent: Agent, clock_unix_s: float) -> None:
        """A ping told the agent's time: look closer when it is off, and end what was said when it is not."""
        off = abs(clock_unix_s - self._clock()) > SHOWN_S
        if (off or REMARK in agent.remarks) and agent.name not in self._looking:
            self._looking.add(agent.name)
            Deferred.fromCoroutine(self._look(agent)).addErrback(
                lambda failure: self._log.failure("comparing clocks", failure=failure)
            )

    async def doubted(self, agent: Agent) -> None:
        """It takes the daemon's certificate for bad: its clock may be why, and TLS cannot tell that."""
        now_s = self._seconds()
        last_s = self._doubted_s.get(agent.name)
        if last_s is not None and now_s - last_s < DOUBTED_AGAIN_S:
            return
        self._doubted_s[agent.name] = now_s
        try:
            await self._set_clock(agent.name, self._clock())
        except Exception as error:
            self._log.info("the clock of {name} is not set: {error}", name=agent.name, error=str(error))
        else:
            self._log.warn("set the clock of {name}: it refuses our certificate", name=agent.name)

    async def _look(self, agent: Agent) -> None:
        try:
            skew_s = await self._measured_and_corrected(agent, None)
        except RpcError as error:
            self._log.info("no time of {name}: {error}", name=agent.name, error=str(error))
            return
        finally:
            self._looking.discard(agent.name)
        alarmed = agent.status.state is AgentState.ALERT and REMARK in agent.remarks
        agent.remark(REMARK, remark_on(skew_s))
        if agent.peer is None or not (agent.status.state is AgentState.UP or alarmed):
            return
        if abs(skew_s) > ALERT_S:
            self._directory.set_status(agent, _alert(skew_s, agent.name))
        elif alarmed:
            await self._directory.came_up(agent)
        else:
            self._directory.set_status(agent, agent.up_status())

    async def _measured_and_corrected(self, agent: Agent, fallback_s: float | None) -> float:
        """Seconds that the agent is ahead, after an attempt to put it right if that is needed."""
        skew_s = await self._measure(agent, fallback_s)
        if abs(skew_s) <= SHOWN_S:
            return skew_s
        try:
            await self._set_clock(agent.name, self._clock())
        except Exception as error:
            self._log.info("the clock of {name} is not set: {error}", name=agent.name, error=str(error))
        else:
            self._log.warn("set the clock of {name}, {skew_s:.1f} s off", name=agent.name, skew_s=skew_s)
        return await self._measure(agent, skew_s)

    async def _measure(self, agent: Agent, fallback_s: float | None) -> float:
        """By the middle of a round trip; `fallback_s` for an agent that cannot be asked."""
        sent_s = self._clock()
        try:
            pong = await self._directory.call(
                agent.name, PING, Ping(sent_s), result=Pong, deadline_s=PING_DEADLINE_S
            )
        except RpcError:
            if fallback_s is None:
                raise
            return fallback_s
        return pong.clock_unix_s - (sent_s + self._clock()) / 2


def remark_on(skew_s: float) -> Remark | None:
    """What is said of a clock that is off by more than a few seconds."""
    if abs(skew_s) <= SHOWN_S:
        return None
    return Remark(f"has a clock that is {off_by(skew_s)}", "is the host's own clock right? (timedatectl)")


def _alert(skew_s: float, name: str) -> AgentStatus:
    return AgentStatus(
        AgentState.ALERT,
        f"has a clock that is {off_by(skew_s)}",
        f"is the host's own clock right (timedatectl)? if so: systemvm system-vm reboot {name}",
    )


def off_by(skew_s: float) -> str:
    """How far a clock is off, in words."""
    size_s, way = abs(skew_s), "ahead" if skew_s > 0 else "behind"
    for unit_s, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if size_s >= 2 * unit_s:
            return f"{size_s / unit_s:.0f} {unit} {way}"
    return f"{size_s:.0f} s {way}"
