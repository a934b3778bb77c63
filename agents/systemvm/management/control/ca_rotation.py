# SPDX-License-Identifier: Apache-2.0
"""Replaces the control CA while everything runs: both are trusted until every agent has gone over.

Three rounds, each over when no running agent is behind: the next root is made known, it signs, the previous
one is dropped. An agent is asked to renew (`identity.renew`); the answer to its signing request carries all
roots that are trusted then. A VM that starts meanwhile gets them with its credentials.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.pki.control_roots import Phase
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.agent import RENEW

STEP_S = 30.0
RENEW_DEADLINE_S = 90.0


@frozen
class Progress:
    """How far a replacement is, and whom it waits for."""

    phase: str
    text: str
    waits_for: list[str]  # `name: why`


class CaRotation:
    """Steps on at an interval and whenever an agent came up, until one root is trusted again."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: AgentDirectory,
        authority: ControlAuthority,
        is_running: Callable[[str], bool],
        on_dropped: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._authority = authority
        self._is_running = is_running
        self._on_dropped = on_dropped
        self._turn = DeferredLock()
        self._waits_for: list[str] = []
        self._stopped = False
        self._loop = LoopingCall(self.wake)
        self._loop.clock = clock

    def subscribe(self) -> None:
        """Continue whenever an agent is up."""
        self._directory.on_up(self._came_up)

    def start(self) -> None:
        """Also goes on with what an earlier daemon began."""
        self._loop.start(STEP_S)

    def stop(self) -> None:
        self._stopped = True
        if self._loop.running:
            self._loop.stop()

    def begin(self) -> Progress:
        """Make the next root and start telling agents; nothing when that is under way."""
        self._authority.roots.introduce()
        self._log.warn("the control CA is being replaced")
        self.wake()
        return self.progress()

    def progress(self) -> Progress:
        phase = self._authority.phase
        waits_for = [] if phase is Phase.STEADY else list(self._waits_for)
        return Progress(phase.value, phase.description, waits_for)

    def wake(self) -> None:
        if not self._stopped:
            Deferred.fromCoroutine(self.step()).addErrback(
                lambda failure: self._log.failure("replacing the control CA", failure=failure)
            )

    async def step(self) -> None:
        """As many rounds as can be ended now."""
        await self._turn.acquire()
        try:
            while not self._stopped:
                self._waits_for = await self._bring_up_to_date()
                if self._waits_for or self._authority.phase is Phase.STEADY:
                    return
                self._advance()
        finally:
            self._turn.release()

    def _advance(self) -> None:
        roots = self._authority.roots
        if roots.phase is Phase.INTRODUCED:
            roots.switch()
        else:
            roots.finish()
            self._on_dropped()
        self._log.warn("control CA: {text}", text=roots.phase.description)

    async def _bring_up_to_date(self) -> list[str]:
        """Have every agent that is behind renew; who still is, and why."""
        steady, wanted = self._authority.phase is Phase.STEADY, self._authority.roots.bundle_id
        behind = []
        for agent in self._directory.agents():
            if agent.trusts == wanted or (steady and not agent.trusts):
                continue  # in steady times only those whom a replacement left with a root too many
            if agent.peer is None:
                if self._is_running(agent.name):
                    behind.append(f"{agent.name}: it is not connected")
                continue
            try:
                await renew(self._directory, agent)
            except RpcError as error:
                behind.append(f"{agent.name}: {error.message}")
                continue
            if agent.trusts != wanted:
                behind.append(f"{agent.name}: it did not ask for a certificate")
        return behind

    async def _came_up(self, agent: Agent) -> None:
        # after the last step too: that ended its connection, and it still trusts a root too many
        if self._authority.phase is not Phase.STEADY or agent.trusts not in (
            "",
            self._authority.roots.bundle_id,
        ):
            self.wake()


async def renew(directory: AgentDirectory, agent: Agent) -> None:
    """Have an agent make a new key and get it signed; RpcError when it did not."""
    await directory.call(agent.name, RENEW, deadline_s=RENEW_DEADLINE_S)
