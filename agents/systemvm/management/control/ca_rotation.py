# SPDX-License-Identifier: Apache-2.0
"""Replaces the control CA at run time: both roots are trusted until every agent has changed over.

There are three rounds, each of which ends when all running agents have followed: the next root is introduced,
it signs, the previous one is removed. The daemon calls `identity.renew`; the answer to the agent's signing
request carries all roots that are trusted then. A VM that starts meanwhile gets them with its credentials.
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
    """The phase of a replacement, and the agents that it waits for."""

    phase: str
    text: str
    waits_for: list[str]  # `name: reason`


class CaRotation:
    """Advances at an interval and whenever an agent comes up, until only one root is trusted."""

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
        self._lock = DeferredLock()
        self._waits_for: list[str] = []
        self._stopped = False
        self._loop = LoopingCall(self.wake)
        self._loop.clock = clock

    def subscribe(self) -> None:
        """Continue whenever an agent is up."""
        self._directory.on_up(self._came_up)

    def start(self) -> None:
        """Start, and continue a replacement that an earlier daemon began."""
        self._loop.start(STEP_S)

    def stop(self) -> None:
        self._stopped = True
        if self._loop.running:
            self._loop.stop()

    def begin(self) -> Progress:
        """Make the next root and begin to renew agents; does nothing when that is in progress."""
        self._authority.roots.introduce()
        self._log.warn("replacing the control CA")
        self.wake()
        return self.progress()

    def progress(self) -> Progress:
        phase = self._authority.phase
        waits_for = [] if phase is Phase.STEADY else list(self._waits_for)
        return Progress(phase.value, phase.description, waits_for)

    def wake(self) -> None:
        if not self._stopped:
            Deferred.fromCoroutine(self.step()).addErrback(
                lambda failure: self._log.failure("cannot replace the control CA", failure=failure)
            )

    async def step(self) -> None:
        """Complete as many rounds as possible now."""
        await self._lock.acquire()
        try:
            while not self._stopped:
                self._waits_for = await self._bring_up_to_date()
                if self._waits_for or self._authority.phase is Phase.STEADY:
                    return
                self._advance()
        finally:
            self._lock.release()

    def _advance(self) -> None:
        roots = self._authority.roots
        if roots.phase is Phase.INTRODUCED:
            roots.switch()
        else:
            roots.finish()
            self._on_dropped()
        self._log.warn("control CA: {text}", text=roots.phase.description)

    async def _bring_up_to_date(self) -> list[str]:
        """Have outdated agents renew; return those that are still outdated, with the reason."""
        is_steady, bundle_id = self._authority.phase is Phase.STEADY, self._authority.roots.bundle_id
        behind = []
        for agent in self._directory.agents():
            if agent.trusts == bundle_id or (is_steady and not agent.trusts):
                continue  # in the steady phase only agents that still trust a removed root
            if agent.peer is None:
                if self._is_running(agent.name):
                    behind.append(f"{agent.name}: it is not connected")
                continue
            try:
                await renew(self._directory, agent)
            except RpcError as error:
                behind.append(f"{agent.name}: {error.message}")
                continue
            if agent.trusts != bundle_id:
                behind.append(f"{agent.name}: it did not request a certificate")
        return behind

    async def _came_up(self, agent: Agent) -> None:
        # also after the last round, which closed its connection: it still trusts the removed root
        if self._authority.phase is not Phase.STEADY or agent.trusts not in (
            "",
            self._authority.roots.bundle_id,
        ):
            self.wake()


async def renew(directory: AgentDirectory, agent: Agent) -> None:
    """Have an agent make a new key and get it signed.

    Raises: RpcError when it did not.
    """
    await directory.call(agent.name, RENEW, deadline_s=RENEW_DEADLINE_S)
