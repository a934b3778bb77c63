# SPDX-License-Identifier: Apache-2.0
"""What has to be done now and then: forget what expired, clear primary storage, keep what ages fresh."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.page.listener import PageCertificate
from systemvm.management.state import console_sessions, jobs, sessions
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.system_vms.diagnostics import Diagnostics
from systemvm.management.system_vms.preparation import AgentPreparation
from systemvm.management.templates.copies import TemplateCopies
from systemvm.rpc.core.errors import RpcError
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.role import Role

FORGET_EVERY_S = 600.0
MEASURE_EVERY_S = 60.0
CLEAR_EVERY_S = 300.0
#: A public certificate lives 90 days; an operator's own files are read as often, and may be newer.
RENEW_EVERY_S = 86400.0


class Housekeeping:
    """Four loops, none on top of itself; a round that fails is logged, and the next one comes later."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        directory: AgentDirectory,
        preparations: AgentPreparation,
        copies: TemplateCopies,
        *,
        job_expiry: timedelta,
        page_certificate: PageCertificate | None = None,
        diagnostics: Diagnostics | None = None,
    ) -> None:
        self._database = database
        self._directory = directory
        self._preparations = preparations
        self._job_expiry = job_expiry
        self._page_certificate = page_certificate
        self._diagnostics = diagnostics
        self._measuring = SingleFlight[str]()  # by the SSVM's name
        self._loops = [
            Periodic(clock, self.forget, FORGET_EVERY_S, what="forgetting what expired"),
            Periodic(clock, self.measure_stores, MEASURE_EVERY_S, what="measuring stores"),
            Periodic(clock, copies.remove_unused, CLEAR_EVERY_S, what="clearing primary storage"),
            Periodic(clock, self.renew_certificates, RENEW_EVERY_S, what="renewing public certificates"),
        ]

    def start(self) -> None:
        for loop in self._loops:
            loop.start(now=False)

    def stop(self) -> None:
        for loop in self._loops:
            loop.stop()

    async def forget(self) -> None:
        """Old job results, zips of diagnostics, logins and console links that nobody used."""
        if self._diagnostics is not None:
            await deferToThread(self._diagnostics.forget_old)
        await self._database.run(jobs.delete_older, now() - self._job_expiry)
        await self._database.run(sessions.delete_expired)
        await self._database.run(console_sessions.expire)

    async def measure_stores(self) -> None:
        """Every SSVM that is Up says how full its stores are, or is said to have none that answers.

        They are asked side by side, and one that has not answered the last time is not asked again.
        """
        agents = (self._directory.agent(name) for name in self._directory.up(Role.SSVM))
        for agent in agents:
            if agent is not None:
                self._measuring.start(agent.name, partial(self._measure, agent))

    async def measured(self) -> None:
        """Wait for the answers to what was asked so far."""
        for name in self._measuring.running():
            await self._measuring.wait_until_ended(name)

    async def _measure(self, agent: Agent) -> None:
        try:
            await self._preparations.measure_stores(agent)
        except RpcError as error:
            self._log.info("how full the stores of {name} are: {error}", name=agent.name, error=error)
        except Exception:
            self._log.failure("measuring the stores of {name} failed", name=agent.name)

    async def renew_certificates(self) -> None:
        """Fresh public certificates for the page and for CPVMs that stay up for long; open consoles go on."""
        if self._page_certificate is not None:
            self._page_certificate.renew()
        for name in self._directory.up(Role.CPVM):
            agent = self._directory.agent(name)
            if agent is None:
                continue
            try:
                await self._preparations.set_up_console(agent)
            except RpcError as error:
                self._log.info("{name} has its old certificate: {error}", name=name, error=error)
