# SPDX-License-Identifier: Apache-2.0
"""Measures, reports and corrects the clocks of agents.

A guest gets the time with its boot arguments and sets its clock before its first TLS handshake, so that a
wrong RTC does not prevent a connection. Later errors are detected here, in `hello` and in each ping.
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
#: The minimum interval between settings of the clock of a guest that rejects the daemon's certificate.
CORRECT_AGAIN_S = 60.0
REMARK = "clock"

#: Sets a guest's clock to a UNIX time without the channel (qemu-guest-agent); any exception is a failure.
SetClock = Callable[[str, float], Awaitable[None]]


async def _cannot(name: str, unix_s: float) -> None:
    raise LookupError("no way to set the clock of a guest")


class ClockMonitor:
    """Measures a suspect clock by a round trip; an error of over a minute is an Alert until it is
    corrected.
    """

    _log = Logger()

    def __init__(
        self,
        directory: AgentDirectory,
        set_clock: SetClock = _cannot,
        clock: Callable[[], float] = time.time,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._corrected_s: dict[str, float] = {}
        self._directory = directory
        self._set_clock = set_clock
        self._clock = clock
        self._measuring: set[str] = set()

    def subscribe(self) -> None:
        """Have the directory run `prepare` for agents of both roles."""
        for role in (Role.SSVM, Role.CPVM):
            self._directory.prepare(role, self.prepare)

    async def prepare(self, agent: Agent) -> None:
        """Check the clock after hello.

        Raises: NotReadyError while the clock is wrong by more than a minute.
        """
        hello = agent.hello
        skew_s = hello.clock_unix_s - self._clock() if hello is not None else 0.0
        if abs(skew_s) > SHOWN_S:
            skew_s = await self._measured_and_corrected(agent, skew_s)
        agent.remark(REMARK, remark_on(skew_s))
        if abs(skew_s) > ALERT_S:
            raise NotReadyError(_alert(skew_s, agent.name))

    def heard(self, agent: Agent, clock_unix_s: float) -> None:
        """Handle the agent's time from a ping: measure a suspect clock, and remove the remark of a correct
        one.
        """
        off = abs(clock_unix_s - self._clock()) > SHOWN_S
        if (off or REMARK in agent.remarks) and agent.name not in self._measuring:
            self._measuring.add(agent.name)
            Deferred.fromCoroutine(self._recheck(agent)).addErrback(
                lambda failure: self._log.failure("cannot compare clocks", failure=failure)
            )

    async def doubted(self, agent: Agent) -> None:
        """Set the clock of an agent that rejects the daemon's certificate: a wrong clock might be the
        cause.
        """
        now_s = self._seconds()
        last_s = self._corrected_s.get(agent.name)
        if last_s is not None and now_s - last_s < CORRECT_AGAIN_S:
            return
        self._corrected_s[agent.name] = now_s
        try:
            await self._set_clock(agent.name, self._clock())
        except Exception as error:
            self._log.info("cannot set the clock of {name}: {error}", name=agent.name, error=str(error))
        else:
            self._log.warn("set the clock of {name}, which rejects our certificate", name=agent.name)

    async def _recheck(self, agent: Agent) -> None:
        try:
            skew_s = await self._measured_and_corrected(agent, None)
        except RpcError as error:
            self._log.info("cannot read the clock of {name}: {error}", name=agent.name, error=str(error))
            return
        finally:
            self._measuring.discard(agent.name)
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
        """Return by how many seconds the agent is ahead, after a correction if necessary."""
        skew_s = await self._measure(agent, fallback_s)
        if abs(skew_s) <= SHOWN_S:
            return skew_s
        try:
            await self._set_clock(agent.name, self._clock())
        except Exception as error:
            self._log.info("cannot set the clock of {name}: {error}", name=agent.name, error=str(error))
        else:
            self._log.warn(
                "set the clock of {name}, which was wrong by {skew_s:.1f} s", name=agent.name, skew_s=skew_s
            )
        return await self._measure(agent, skew_s)

    async def _measure(self, agent: Agent, fallback_s: float | None) -> float:
        """Measure at the middle of a round trip; return `fallback_s` when the agent does not answer."""
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
    """Return the remark for a clock that is wrong by more than a few seconds, or None."""
    if abs(skew_s) <= SHOWN_S:
        return None
    return Remark(f"has a clock that is {off_by(skew_s)}", "check the host's own clock with timedatectl")


def _alert(skew_s: float, name: str) -> AgentStatus:
    return AgentStatus(
        AgentState.ALERT,
        f"has a clock that is {off_by(skew_s)}",
        f"check the host's own clock with timedatectl, then run systemvm system-vm reboot {name}",
    )


def off_by(skew_s: float) -> str:
    """Return the error of a clock as text: 90 s ahead, 3 days behind."""
    size_s, way = abs(skew_s), "ahead" if skew_s > 0 else "behind"
    for unit_s, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if size_s >= 2 * unit_s:
            return f"{size_s / unit_s:.0f} {unit} {way}"
    return f"{size_s:.0f} s {way}"
