# SPDX-License-Identifier: Apache-2.0
"""The services for users as a group: templates, VMs and consoles, behind one table of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.threads import deferToThread
from twisted.web.server import Site

from systemvm.management.accounts.second_factors import SecondFactors
from systemvm.management.accounts.service import AccountService
from systemvm.management.alerts.delivery import AlertDelivery
from systemvm.management.api import operators
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.command import CommandTable
from systemvm.management.api.factory import ApiServices as CommandServices
from systemvm.management.api.factory import command_table
from systemvm.management.api.job_start import describe_job_error
from systemvm.management.api.traffic import ApiTraffic
from systemvm.management.console_services import ConsoleServices, make_console_services
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_reconciler import AgentReconciler
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control_plane import ControlPlane
from systemvm.management.foreign_host_services import ForeignHostServices, make_foreign_hosts
from systemvm.management.foundation import Foundation
from systemvm.management.guest_networks.service import GuestNetworks
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.hypervisors.base import DomainStatus
from systemvm.management.image_services import ImageServices, make_image_services
from systemvm.management.image_stores.staging import Staging
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.metrics.agents import AgentScraper
from systemvm.management.metrics.reactor_lag import ReactorLag
from systemvm.management.metrics.service import MetricsService
from systemvm.management.metrics.sources import DaemonMetrics
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal
from systemvm.management.public_certificates.overview import PublicNames
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.public_site import make_site
from systemvm.management.screens.recognition import Tesseract
from systemvm.management.screens.service import MachineScreens
from systemvm.management.screens.thumbnails import Thumbnails
from systemvm.management.state.rows import NotFoundError
from systemvm.management.system_vm_services import SystemVmServices
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.reconciler import TemplateReconciler
from systemvm.management.templates.service import TemplateService
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.reaper import ExpungeReaper
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volume_services import VolumeServices, make_volume_services
from systemvm.management.zone_model.changes import ModelChanges
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
    virtual_machines: VirtualMachines
    disks: VolumeServices
    reaper: ExpungeReaper
    agent_reconciler: AgentReconciler
    authorizer: ConsoleAuthorizer
    consoles: ConsoleServices
    commands: CommandTable
    acme: AcmeRenewal
    operators: Authenticator
    alert_delivery: AlertDelivery
    foreign_hosts: ForeignHostServices
    guest_networks: GuestNetworks
    metrics: MetricsService

    def add_methods(self, agent_methods: MethodTable, operator_methods: MethodTable) -> None:
        self.images.dispatcher.add_methods(agent_methods)
        self.authorizer.add_methods(agent_methods)
        self.consoles.add_methods(agent_methods)
        operators.add_methods(operator_methods, self.commands, self.operators)

    def subscribe(self) -> None:
        """Subscribe to events of machines and agents."""
        self.virtual_machines.subscribe()
        self.agent_reconciler.subscribe()
        self.directory.on_up(self._agent_up)
        self.directory.on_up(self.acme.agent_up)  # after its setup: without one it answers no challenge

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """Bring the rows of users' machines up to date with those that run, before any job resumes."""
        await self.virtual_machines.adopt(machines)

    async def start(self) -> None:
        """Resume the jobs and downloads of an earlier daemon."""
        self.guest_networks.start()
        await self.disks.leftovers.claim_unmade()
        await self.disks.volumes.finish_deletions()
        await self.jobs.resume_pending()
        await self.disks.snapshot_copies.continue_unmade(self.jobs)
        self.images.start()
        self.disks.uploads.changed()
        self.agent_reconciler.start()
        self.reaper.start()
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
        self.reaper.stop()
        self.agent_reconciler.stop()
        self.images.stop()
        self.jobs.stop()
        self.guest_networks.stop()

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
    jobs = JobRunner(database, reactor, describe_job_error)
    consoles = make_console_services(reactor, foundation, directory, settings, jobs)
    guest_networks = GuestNetworks(
        reactor,
        database,
        drivers.guest_services,
        drivers.networks,
        configuration.labels,
        foundation.seal,
        host_id=foundation.host.id,
    )
    virtual_machines = _make_virtual_machines(
        foundation, drivers, settings, consoles, images.staging, guest_networks
    )
    templates = TemplateService(
        database, images.dispatcher, virtual_machines, images.usage, settings, images.sources
    )
    disks = make_volume_services(
        reactor, foundation, drivers, directory, settings, jobs, images, templates, virtual_machines
    )
    users = Authenticator(database, foundation.seal)
    second_factors = SecondFactors(database, foundation.seal)
    alert_delivery = AlertDelivery(reactor, database, foundation.seal, foundation.host.name)
    machine_screens = MachineScreens(reactor, database, drivers.hypervisor, Tesseract())
    certificates = PublicCertificates(database, foundation.seal, foundation.sites)
    certificates.senders += [system_vms.preparation.send_certificates, images.extraction.send_certificates]
    # a root that was made for another zone signs for all: browsers then need to trust only the newest one
    foundation.public.on_renewed = lambda: reactor.callFromThread(certificates.start_change)
    acme = AcmeRenewal(
        reactor, database, directory, foundation.seal, certificates, settings.secondary_storage
    )

    page = foundation.page_certificate
    traffic = ApiTraffic.of(database, reactor.seconds)
    foreign_hosts = make_foreign_hosts(
        reactor, foundation, consoles.addresses, consoles.revocation.of_machine
    )

    async def configured() -> None:
        await consoles.limits.send_all()
        certificates.start_change(acme.changed)
        await alert_delivery.changed()

    commands = command_table(
        CommandServices(
            database=database,
            jobs=jobs,
            templates=templates,
            inspection=images.inspection,
            object_links=images.object_links,
            zone_copies=images.zone_copies,
            migrations=images.migrations,
            image_stores=images.stores,
            hosts=foreign_hosts.hosts,
            system_vms=system_vms.lifecycle,
            virtual_machines=virtual_machines,
            volumes=disks.volumes,
            volume_uploads=disks.uploads,
            snapshots=disks.snapshots,
            snapshot_policies=disks.snapshot_policies,
            snapshot_images=disks.snapshot_images,
            snapshot_copies=disks.snapshot_copies,
            consoles=consoles.endpoints,
            console_sessions=consoles.sessions,
            end_console=consoles.revocation.of_session,
            send_machine_data=guest_networks.send_data,
            restart_network=guest_networks.restart,
            recordings=consoles.recordings,
            supervision=consoles.supervision,
            draining=consoles.draining,
            on_configured=configured,
            screens=machine_screens,
            thumbnails=Thumbnails(reactor, machine_screens, deferToThread),
            player_url=f"{configuration.management.page.endpoint.url}/recordings.html",
            diagnostics=system_vms.diagnostics,
            diagnostics_url=f"{configuration.management.page.endpoint.url}/diagnostics",
            guest_bridge=settings.guest_bridge,
            networks_of=settings.networks,
            model=ModelChanges(database, foundation.zones, configuration.labels, system_vms.reconciler.wake),
            pool_maintenance=disks.maintenance,
            volume_migration=disks.migration,
            pools=disks.pools,
            host_id=foundation.host.id,
            certificates=control.certificate_service,
            public_certificates=certificates,
            acme=acme,
            public_names=PublicNames(
                foundation.sites,
                lambda name: configuration.zone(name).console,
                settings.secondary_storage,
                lambda: [*directory.up(Role.CPVM), *directory.up(Role.SSVM)],
                page,
            ),
            renew_page=page.renew if page is not None else _no_page,
            accounts=AccountService(
                database,
                foundation.seal,
                users.passwords,
                virtual_machines,
                disks.volumes,
                disks.snapshots,
                templates,
                consoles.revocation,
            ),
            second_factors=second_factors,
            alert_delivery=alert_delivery,
            seal=foundation.seal,
            throttle=traffic.throttle,
            extraction=images.extraction,
            uploads=images.uploads,
            is_extraction_disabled=lambda name: settings.secondary_storage(name).disable_extraction,
            storage_limit_gib=lambda name: settings.secondary_storage(name).max_account_secondary_storage_gib,
            expunge=configuration.management.expunge,
        )
    )
    return UserServices(
        jobs=jobs,
        site=make_site(
            reactor,
            foundation,
            system_vms,
            settings,
            commands,
            users,
            second_factors,
            consoles.revocation,
            traffic,
        ),
        directory=directory,
        images=images,
        virtual_machines=virtual_machines,
        disks=disks,
        reaper=_make_reaper(reactor, foundation, virtual_machines),
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
        acme=acme,
        operators=users,
        alert_delivery=alert_delivery,
        foreign_hosts=foreign_hosts,
        guest_networks=guest_networks,
        metrics=MetricsService(
            reactor,
            configuration.management.metrics,
            list(configuration.labels.values()),
            DaemonMetrics(
                database,
                configuration.layout.database,
                disks.pools,
                traffic.meter,
                jobs.ended,
                ReactorLag(reactor),
            ),
            AgentScraper(reactor, directory),
        ),
    )


def _make_reaper(
    reactor: Reactor, foundation: Foundation, virtual_machines: VirtualMachines
) -> ExpungeReaper:
    return ExpungeReaper(
        reactor,
        foundation.database,
        virtual_machines,
        host_id=foundation.host.id,
        interval_s=foundation.configuration.management.expunge.interval,
    )


def _make_virtual_machines(
    foundation: Foundation,
    drivers: HostDrivers,
    settings: ZoneSettings,
    consoles: ConsoleServices,
    staging: Staging,
    guest_networks: GuestNetworks,
) -> VirtualMachines:
    configuration, database, host_id = foundation.configuration, foundation.database, foundation.host.id
    builder = UserVmBuilder(
        database,
        drivers.pools,
        configuration.layout.logs,
        settings.vnc_address,
        foundation.seal,
        host_id=host_id,
        staging=staging,
    )
    return VirtualMachines(
        database,
        drivers.hypervisor,
        builder,
        foundation.seal,
        host_id=host_id,
        timeout_scale=drivers.timeout_scale,
        expunge_delay_s=configuration.management.expunge.delay,
        end_consoles=consoles.revocation.of_machine,
        move_consoles=consoles.retargeting.of_machine,
        networks=guest_networks,
    )


def _no_page() -> None:
    """Stand for the renewal of a page whose certificate a proxy has."""


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
