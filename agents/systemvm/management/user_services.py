# SPDX-License-Identifier: Apache-2.0
"""The services for users as a group: templates, VMs and consoles, behind one table of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from attrs import frozen
from twisted.web.server import Site

from systemvm.management.account_services import AccountServices, make_account_services
from systemvm.management.alerts.delivery import AlertDelivery
from systemvm.management.api import operators
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.command import CommandTable
from systemvm.management.api.factory import command_table
from systemvm.management.command_services import gather_command_services
from systemvm.management.console_services import ConsoleServices, make_console_services
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_reconciler import AgentReconciler
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control_plane import ControlPlane
from systemvm.management.foreign_host_services import ForeignHostServices, make_foreign_hosts
from systemvm.management.foundation import Foundation
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.hypervisors.base import DomainStatus
from systemvm.management.image_services import ImageServices, make_image_services
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.machine_services import MachineServices, make_machine_services
from systemvm.management.metrics.agents import AgentScraper
from systemvm.management.metrics.reactor_lag import ReactorLag
from systemvm.management.metrics.service import MetricsService
from systemvm.management.metrics.sources import DaemonMetrics
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal
from systemvm.management.public_name_services import make_public_name_services
from systemvm.management.public_site import make_site
from systemvm.management.state.rows import NotFoundError
from systemvm.management.system_vm_services import SystemVmServices
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.reconciler import TemplateReconciler
from systemvm.management.volume_services import VolumeServices, make_volume_services
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.transport import Reactor
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.role import Role


@frozen
class UserServices:
    """Templates, VMs, consoles and jobs, and the site that serves them."""

    jobs: JobRunner
    site: Site
    directory: AgentDirectory
    images: ImageServices
    machines: MachineServices
    disks: VolumeServices
    agent_reconciler: AgentReconciler
    authorizer: ConsoleAuthorizer
    consoles: ConsoleServices
    commands: CommandTable
    acme: AcmeRenewal
    operators: Authenticator
    alert_delivery: AlertDelivery
    foreign_hosts: ForeignHostServices
    metrics: MetricsService

    def add_methods(self, agent_methods: MethodTable, operator_methods: MethodTable) -> None:
        self.images.dispatcher.add_methods(agent_methods)
        self.authorizer.add_methods(agent_methods)
        self.consoles.add_methods(agent_methods)
        operators.add_methods(operator_methods, self.commands, self.operators)

    def subscribe(self) -> None:
        """Subscribe to events of machines and agents."""
        self.machines.virtual_machines.subscribe()
        self.agent_reconciler.subscribe()
        self.directory.on_up(self._agent_up)
        self.directory.on_up(self.acme.agent_up)  # after its setup: without one it answers no challenge

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """Bring the rows of users' machines up to date with those that run, before any job resumes."""
        await self.machines.virtual_machines.adopt(machines)

    async def start(self) -> None:
        """Resume the jobs and downloads of an earlier daemon."""
        self.machines.guest_networks.start()
        self.disks.pools.start()
        await self.disks.leftovers.claim_unmade()
        await self.disks.volumes.finish_deletions()
        await self.jobs.resume_pending()
        await self.disks.snapshot_copies.continue_unmade(self.jobs)
        self.images.start()
        self.disks.uploads.changed()
        self.agent_reconciler.start()
        self.machines.reaper.start()
        self.machines.halts.start()
        await self.disks.snapshot_policies.start()
        self.acme.start()
        self.consoles.recordings.start()
        self.disks.snapshot_images.start()
        self.foreign_hosts.start()
        await self.alert_delivery.start()

    def stop(self) -> None:
        self.alert_delivery.stop()
        self.foreign_hosts.stop()
        self.disks.snapshot_images.stop()
        self.consoles.recordings.stop()
        self.acme.stop()
        self.disks.snapshot_policies.stop()
        self.machines.halts.stop()
        self.machines.reaper.stop()
        self.agent_reconciler.stop()
        self.images.stop()
        self.jobs.stop()
        self.disks.pools.stop()
        self.machines.guest_networks.stop()

    async def job_events(self, call: Call, job: str | None) -> AsyncIterator[Any]:
        """Yield the progress of a job until it ends: `GET /events?job=ID`.

        Raises: RpcError when `job` is missing or names no job.
        """
        if not job:
            raise RpcError.refused(
                CallRefusal.NO_JOB, "job is missing", "use GET /events?job=ID with a command's job id"
            )
        try:
            async for progress in self.jobs.follow(job):
                yield progress
        except NotFoundError as error:
            raise RpcError.refused(CallRefusal.NOT_FOUND, str(error)) from error

    async def _agent_up(self, agent: Agent) -> None:
        if agent.role is Role.SSVM:
            await self.images.agent_up(agent.name)
            await self.disks.agent_up()


def make_user_services(
    reactor: Reactor,
    foundation: Foundation,
    drivers: HostDrivers,
    control: ControlPlane,
    system_vms: SystemVmServices,
) -> UserServices:
    """Make all parts; `subscribe` and `add_methods` connect them."""
    configuration, database, directory = foundation.configuration, foundation.database, control.directory
    settings = ZoneSettings(configuration, foundation.sites)
    images = make_image_services(reactor, foundation, directory, settings)
    jobs = JobRunner(database, reactor)
    consoles = make_console_services(reactor, foundation, directory, settings, jobs)
    machines = make_machine_services(reactor, foundation, drivers, settings, images, consoles)
    disks = make_volume_services(
        reactor,
        foundation,
        drivers,
        directory,
        settings,
        jobs,
        images,
        machines.templates,
        machines.virtual_machines,
    )
    accounts = make_account_services(reactor, foundation, consoles, machines, disks)
    alert_delivery = AlertDelivery(reactor, database, foundation.seal, foundation.host.name)
    senders = (system_vms.preparation.send_certificates, images.extraction.send_certificates)
    public_names = make_public_name_services(reactor, foundation, directory, settings, senders)
    # a root that was made for another zone signs for all: browsers then need to trust only the newest one
    foundation.public.on_renewed = lambda: reactor.callFromThread(public_names.certificates.start_change)
    foreign_hosts = make_foreign_hosts(
        reactor, foundation, consoles.addresses, consoles.revocation.of_machine
    )

    async def configured() -> None:
        await foundation.database.run(foundation.zones.load)
        await consoles.limits.send_all()
        public_names.certificates.start_change(public_names.acme.changed)
        await alert_delivery.changed()

    commands = command_table(
        gather_command_services(
            foundation,
            settings,
            jobs=jobs,
            images=images,
            consoles=consoles,
            machines=machines,
            disks=disks,
            accounts=accounts,
            public_names=public_names,
            hosts=foreign_hosts.hosts,
            alert_delivery=alert_delivery,
            system_vms=system_vms.lifecycle,
            diagnostics=system_vms.diagnostics,
            certificates=control.certificate_service,
            on_zones_changed=system_vms.reconciler.wake,
            on_configured=configured,
        )
    )
    return UserServices(
        jobs=jobs,
        site=make_site(reactor, foundation, system_vms, settings, commands, accounts, consoles.revocation),
        directory=directory,
        images=images,
        machines=machines,
        disks=disks,
        agent_reconciler=_make_agent_reconciler(reactor, foundation, directory, images.dispatcher, consoles),
        authorizer=ConsoleAuthorizer(
            database,
            foundation.seal,
            consoles.revocation,
            MachineSerialPorts(foundation.screens, configuration.layout.logs),
            foreign_hosts.hosts,
        ),
        consoles=consoles,
        commands=commands,
        acme=public_names.acme,
        operators=accounts.authenticator,
        alert_delivery=alert_delivery,
        foreign_hosts=foreign_hosts,
        metrics=_make_metrics(reactor, foundation, directory, jobs, disks, accounts),
    )


def _make_metrics(
    reactor: Reactor,
    foundation: Foundation,
    directory: AgentDirectory,
    jobs: JobRunner,
    disks: VolumeServices,
    accounts: AccountServices,
) -> MetricsService:
    configuration = foundation.configuration
    return MetricsService(
        reactor,
        configuration.management.metrics,
        list(configuration.labels.values()),
        DaemonMetrics(
            foundation.database,
            configuration.layout.database,
            disks.pools,
            accounts.traffic.meter,
            jobs.ended,
            ReactorLag(reactor),
        ),
        AgentScraper(reactor, directory),
    )


def _make_agent_reconciler(
    reactor: Reactor,
    foundation: Foundation,
    directory: AgentDirectory,
    dispatcher: DownloadDispatcher,
    consoles: ConsoleServices,
) -> AgentReconciler:
    database = foundation.database
    templates = TemplateReconciler(database, directory, dispatcher.wake)
    reconciler = AgentReconciler(reactor, directory)
    reconciler.add(Role.SSVM, templates.reconcile)
    consoles.reconcile_agents(reconciler)
    return reconciler
