# SPDX-License-Identifier: Apache-2.0
"""What users reach: templates, VMs and consoles, behind one table of commands for HTTP and for the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from attrs import frozen
from twisted.web.server import Site

from systemvm.management.accounts.service import AccountService
from systemvm.management.api import operators
from systemvm.management.api.authentication import Directory
from systemvm.management.api.factory import Services as CommandServices
from systemvm.management.api.factory import client_resource, command_table
from systemvm.management.api.http import Front
from systemvm.management.api.job_start import describe_job_error
from systemvm.management.api.site import QuietSite
from systemvm.management.config import Configuration
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.endpoint import ConsoleEndpoints
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.consoles.session_reconciler import ConsoleSessionReconciler
from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_reconciler import AgentReconciler
from systemvm.management.control.certificate_service import CertificateService
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.base import DomainStatus, Hypervisor
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import Jobs
from systemvm.management.page.diagnostics_download import DiagnosticsShelf
from systemvm.management.page.resource import Page
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.state.database import Database
from systemvm.management.state.rows import NotFoundError
from systemvm.management.system_vms.diagnostics import Diagnostics
from systemvm.management.system_vms.lifecycle import SystemVmLifecycle
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.reconciler import TemplateReconciler
from systemvm.management.templates.service import TemplateService
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.reaper import ExpungeReaper
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.transport import Reactor
from systemvm.service.slowness import TimeoutScale
from systemvm.web.forwarded import networks
from systemvm.wire.role import Role


@frozen
class ServiceContext:
    """What the daemon has before there are services."""

    reactor: Reactor
    configuration: Configuration
    database: Database
    seal: Seal
    directory: AgentDirectory
    hypervisor: Hypervisor
    primary: PrimaryStorage
    system_vms: SystemVmLifecycle
    zone_names: Mapping[int, str]
    public_root_pem: bytes
    diagnostics: Diagnostics
    host_id: int
    timeout_scale: TimeoutScale
    certificates: CertificateService


class UserServices:
    """The services of one daemon, started and stopped together."""

    def __init__(
        self, context: ServiceContext, agent_methods: MethodTable, operator_methods: MethodTable
    ) -> None:
        self._ground = context
        configuration, database = context.configuration, context.database
        self.jobs = Jobs(database, context.reactor, describe_job_error)
        facts = ZoneSettings(configuration)
        usage = StoreUsage(database, context.directory, facts)
        self._dispatch = DownloadDispatcher(context.reactor, database, context.directory, facts, usage)
        self._dispatch.add_methods(agent_methods)
        revocation = ConsoleRevocation(database, context.directory)
        self._virtual_machines = VirtualMachines(
            database,
            context.hypervisor,
            UserVmBuilder(
                database,
                context.primary,
                configuration.layout.logs,
                facts.screen_address,
                host_id=context.host_id,
            ),
            context.seal,
            host_id=context.host_id,
            timeout_scale=context.timeout_scale,
            expunge_delay_s=configuration.management.expunge.delay,
            end_consoles=revocation.of_machine,
        )
        self._reaper = ExpungeReaper(
            context.reactor,
            database,
            self._virtual_machines,
            host_id=context.host_id,
            interval_s=configuration.management.expunge.interval,
        )
        self._reconciliation = AgentReconciler(context.reactor, context.directory)
        self._reconciliation.add(
            Role.SSVM,
            TemplateReconciler(database, context.directory, facts, self._dispatch.wake).reconcile,
        )
        self._reconciliation.add(Role.CPVM, ConsoleSessionReconciler(database, context.directory).reconcile)
        ConsoleAuthorizer(database, context.seal).add_methods(agent_methods)
        consoles = ConsoleEndpoints(
            database,
            context.directory,
            lambda zone_id, address: facts.console_endpoint(context.zone_names[zone_id], address),
        )
        users = Directory(database, context.seal)
        templates = TemplateService(database, self._dispatch, self._virtual_machines, usage)
        page = configuration.management.page
        table = command_table(
            CommandServices(
                database=database,
                jobs=self.jobs,
                templates=templates,
                system_vms=context.system_vms,
                virtual_machines=self._virtual_machines,
                consoles=consoles,
                diagnostics=context.diagnostics,
                diagnostics_url=f"{page.endpoint.url}/diagnostics",
                guest_bridge=facts.guest_bridge,
                networks_of=facts.networks,
                primary=configuration.layout.primary,
                host_id=context.host_id,
                certificates=context.certificates,
                accounts=AccountService(
                    database, context.seal, users.passwords, self._virtual_machines, templates, revocation
                ),
                expunge=configuration.management.expunge,
            )
        )
        operators.add_methods(operator_methods, table, users)
        root = Page(secure=page.endpoint.scheme == "https", public_root_pem=context.public_root_pem)
        front = Front.of(page.endpoint, networks(page.trusted_proxies))
        client = client_resource(table, database, users, context.reactor, front, revocation)
        root.putChild(b"client", client)
        root.putChild(b"diagnostics", DiagnosticsShelf(context.diagnostics.find))
        self.site: Site = QuietSite(root.below(page.endpoint.path))
        context.directory.on_up(self._agent_up)

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """Users' machines as they were found; before any job goes on."""
        await self._virtual_machines.adopt(machines)

    async def start(self) -> None:
        """Go on with what an earlier daemon left: jobs and downloads."""
        await self.jobs.resume_pending()
        self._dispatch.start()
        self._reconciliation.start()
        self._reaper.start()

    def stop(self) -> None:
        self._reaper.stop()
        self._reconciliation.stop()
        self._dispatch.stop()
        self.jobs.stop()

    async def job_events(self, call: Call, job: str | None) -> AsyncIterator[Any]:
        """`GET /events?job=ID`: a job's progress until it ends."""
        if not job:
            raise RpcError.refused("no-job", "which job?", "GET /events?job=ID, as a command answered it")
        try:
            async for progress in self.jobs.follow(job):
                yield progress
        except NotFoundError as error:
            raise RpcError.refused("not-found", str(error)) from error

    async def _agent_up(self, agent: Agent) -> None:
        if agent.role is Role.SSVM:
            self._dispatch.agent_up(agent.name)
