# SPDX-License-Identifier: Apache-2.0
"""Periodic work: deletes expired rows and files, measures stores, renews certificates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.page.listener import PageCertificate
from systemvm.management.public_certificates.files import CertificateFile
from systemvm.management.public_certificates.remarks import report_ends
from systemvm.management.public_certificates.sites import PublicSites
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

EXPIRE_INTERVAL_S = 600.0
MEASURE_INTERVAL_S = 60.0
CLEAR_INTERVAL_S = 300.0
#: A public certificate is valid for 90 days; an operator's files are read again as often.
RENEW_INTERVAL_S = 86400.0
REPORT_INTERVAL_S = 3600.0


class Housekeeping:
    """Five loops, none of which overlaps itself; a failed round is logged, and the next one follows."""

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
        renew_screens: Callable[[], Awaitable[None]] | None = None,
        sites: PublicSites | None = None,
        files: Sequence[CertificateFile] = (),
    ) -> None:
        """`files` are the certificates that operators keep in files."""
        self._database = database
        self._directory = directory
        self._preparations = preparations
        self._job_expiry = job_expiry
        self._page_certificate = page_certificate
        self._diagnostics = diagnostics
        self._renew_screens = renew_screens
        self._sites = sites
        self._files = files
        self._measuring = SingleFlight[str]()  # by the SSVM's name
        self._loops = [
            Periodic(clock, self.forget, EXPIRE_INTERVAL_S, what="delete expired rows and files"),
            Periodic(clock, self.measure_stores, MEASURE_INTERVAL_S, what="measure stores"),
            Periodic(clock, copies.remove_unused, CLEAR_INTERVAL_S, what="clear primary storage"),
            Periodic(clock, self.renew_certificates, RENEW_INTERVAL_S, what="renew certificates"),
            Periodic(clock, self.report_certificates, REPORT_INTERVAL_S, what="report ends of certificates"),
        ]

    def start(self) -> None:
        for loop in self._loops:
            loop.start(now=False)

    def stop(self) -> None:
        for loop in self._loops:
            loop.stop()

    async def forget(self) -> None:
        """Delete old job results, zips of diagnostics, logins and unused console links."""
        if self._diagnostics is not None:
            await deferToThread(self._diagnostics.forget_old)
        await self._database.run(jobs.delete_older, now() - self._job_expiry)
        await self._database.run(sessions.delete_expired)
        await self._database.run(console_sessions.expire)

    async def measure_stores(self) -> None:
        """Measure the stores of every SSVM that is Up, concurrently; skip those whose last call still
        runs.
        """
        agents = (self._directory.agent(name) for name in self._directory.up(Role.SSVM))
        for agent in agents:
            if agent is not None:
                self._measuring.start(agent.name, partial(self._measure, agent))

    async def measured(self) -> None:
        """Wait for the measurements in progress."""
        for name in self._measuring.running():
            await self._measuring.wait_until_ended(name)

    async def _measure(self, agent: Agent) -> None:
        try:
            await self._preparations.measure_stores(agent)
        except RpcError as error:
            self._log.info("cannot measure the stores of {name}: {error}", name=agent.name, error=error)
        except Exception:
            self._log.failure("cannot measure the stores of {name}", name=agent.name)

    async def report_certificates(self) -> None:
        """Record which certificates of the public side end soon."""
        if self._sites is not None:
            await self._database.run(report_ends, self._sites, self._files)

    async def renew_certificates(self) -> None:
        """Renew certificates of the page, of CPVMs and of VNC servers; open consoles continue."""
        if self._renew_screens is not None:
            await self._renew_screens()
        if self._page_certificate is not None:
            self._page_certificate.renew()
        for refused in await self._preparations.send_certificates():
            self._log.warn("cannot renew a certificate: {refused}", refused=refused)
