# SPDX-License-Identifier: Apache-2.0
"""The services for users as a group: templates, VMs and consoles, behind one table of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
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
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.draining import ConsoleDraining
from systemvm.management.consoles.endpoint import ConsoleEndpoints
from systemvm.management.consoles.live_sessions import ConsoleSessionQueries
from systemvm.management.consoles.power import ConsolePowerSwitch
from systemvm.management.consoles.proxy_settings import HOST_ADDRESSES, SESSION_LIMITS, ProxySettingSender
from systemvm.management.consoles.retargeting import ConsoleRetargeting
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.consoles.session_reconciler import ConsoleSessionReconciler
from systemvm.management.consoles.supervision import ConsoleSupervision
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
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import PoolUsage
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal
from systemvm.management.public_certificates.overview import PublicNames
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.public_site import make_site
from systemvm.management.recordings.files import RecordingFiles
from systemvm.management.recordings.intake import RecordingIntake
from systemvm.management.recordings.service import Recordings
from systemvm.management.screens.recognition import Tesseract
from systemvm.management.screens.service import MachineScreens
from systemvm.management.screens.thumbnails import Thumbnails
from systemvm.management.snapshots.copies import SnapshotCopies
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.snapshots.policies import SnapshotPolicies
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.state.rows import NotFoundError
from systemvm.management.system_vm_services import SystemVmServices
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.reconciler import TemplateReconciler
from systemvm.management.templates.service import TemplateService
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.pool_maintenance import PoolMaintenance
from systemvm.management.virtual_machines.reaper import ExpungeReaper
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.leftovers import Leftovers
from systemvm.management.volumes.migration import VolumeMigration
from systemvm.management.volumes.service import Volumes
from systemvm.management.volumes.uploads import VolumeUploads
from systemvm.management.zone_model.changes import ModelChanges
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.transport import Reactor
from systemvm.web.public_endpoint import PublicEndpoint
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
    volumes: Volumes
    leftovers: Leftovers
    volume_uploads: VolumeUploads
    snapshots: VolumeSnapshots
    snapshot_policies: SnapshotPolicies
    snapshot_images: SnapshotImages
    reaper: ExpungeReaper
    agent_reconciler: AgentReconciler
    authorizer: ConsoleAuthorizer
    intake: RecordingIntake
    recordings: Recordings
    console_power: ConsolePowerSwitch
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
        self.intake.add_methods(agent_methods)
        self.console_power.add_methods(agent_methods)
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
        await self.leftovers.claim_unmade()
        await self.volumes.finish_deletions()
        await self.jobs.resume_pending()
        self.images.start()
        self.volume_uploads.changed()
        self.agent_reconciler.start()
        self.reaper.start()
        await self.snapshot_policies.start()
        self.acme.start()
        self.recordings.start()
        self.snapshot_images.start()
        self.foreign_hosts.start()
        await self.alert_delivery.start()

    def stop(self) -> None:
        self.alert_delivery.stop()
        self.foreign_hosts.stop()
        self.snapshot_images.stop()
        self.recordings.stop()
        self.acme.stop()
        self.snapshot_policies.stop()
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
            await self.snapshots.finish_deletions()
            await self.volumes.finish_deletions()
            await self.leftovers.delete()


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
    revocation = ConsoleRevocation(database, directory)
    screens = ConsoleRetargeting(database, directory)
    guest_networks = GuestNetworks(
        reactor,
        database,
        drivers.guest_services,
        drivers.networks,
        configuration.labels,
        host_id=foundation.host.id,
    )
    virtual_machines = _make_virtual_machines(
        foundation, drivers, settings, revocation, screens, images.staging, guest_networks
    )
    volumes = Volumes(database, drivers.pools, drivers.hypervisor, virtual_machines.lock)
    snapshot_files = SnapshotFiles(reactor, database, directory)
    snapshots = VolumeSnapshots(
        database,
        drivers.pools,
        drivers.hypervisor,
        virtual_machines.lock,
        volumes,
        snapshot_files,
        settings,
    )
    snapshot_policies = SnapshotPolicies(
        reactor, database, snapshots, jobs, settings, host_id=foundation.host.id
    )
    templates = TemplateService(
        database, images.dispatcher, virtual_machines, images.usage, settings, images.sources
    )
    volume_uploads = VolumeUploads(
        database, templates, images.uploads, volumes, drivers.pools, virtual_machines,
        host_id=foundation.host.id,
    )  # fmt: skip
    images.dispatcher.on_end(volume_uploads.changed)
    snapshot_images = SnapshotImages(reactor, database, snapshots, templates, images.extraction)
    draining = ConsoleDraining(database, directory, reactor)
    users = Authenticator(database, foundation.seal)
    second_factors = SecondFactors(database, foundation.seal)
    alert_delivery = AlertDelivery(reactor, database, foundation.seal, foundation.host.name)
    machine_screens = MachineScreens(reactor, database, drivers.hypervisor, Tesseract())
    files = RecordingFiles(database, directory)
    recordings = Recordings(reactor, database, files, foundation.seal)
    certificates = PublicCertificates(database, foundation.seal, foundation.sites)
    certificates.senders += [system_vms.preparation.send_certificates, images.extraction.send_certificates]
    limits = ProxySettingSender(database, directory, SESSION_LIMITS)
    acme = AcmeRenewal(
        reactor, database, directory, foundation.seal, certificates, settings.secondary_storage
    )

    page = foundation.page_certificate
    traffic = ApiTraffic.of(database, reactor.seconds)
    pools = StoragePools(
        database,
        drivers.pools,
        PoolUsage(reactor, drivers.pools.directories),
        configuration.layout.primary,
        host_id=foundation.host.id,
    )

    addresses = ProxySettingSender(database, directory, HOST_ADDRESSES)
    foreign_hosts = make_foreign_hosts(reactor, foundation, addresses, revocation.of_machine)

    async def configured() -> None:
        await limits.send_all()
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
            volumes=volumes,
            volume_uploads=volume_uploads,
            snapshots=snapshots,
            snapshot_policies=snapshot_policies,
            snapshot_images=snapshot_images,
            snapshot_copies=SnapshotCopies(
                database, snapshot_images, images.zone_copies, snapshot_files, settings
            ),
            consoles=_make_console_endpoints(foundation, directory, settings),
            console_sessions=ConsoleSessionQueries(database, directory),
            end_console=revocation.of_session,
            send_machine_data=guest_networks.send_data,
            recordings=recordings,
            supervision=_make_supervision(foundation, directory, settings),
            draining=draining,
            on_configured=configured,
            screens=machine_screens,
            thumbnails=Thumbnails(reactor, machine_screens, deferToThread),
            player_url=f"{configuration.management.page.endpoint.url}/recordings.html",
            diagnostics=system_vms.diagnostics,
            diagnostics_url=f"{configuration.management.page.endpoint.url}/diagnostics",
            guest_bridge=settings.guest_bridge,
            networks_of=settings.networks,
            model=ModelChanges(database, foundation.zones, configuration.labels, system_vms.reconciler.wake),
            pool_maintenance=PoolMaintenance(database, virtual_machines, volumes),
            volume_migration=VolumeMigration(
                database, drivers.pools, drivers.hypervisor, virtual_machines.lock, volumes
            ),
            pools=pools,
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
                volumes,
                snapshots,
                templates,
                revocation,
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
            reactor, foundation, system_vms, settings, commands, users, second_factors, revocation, traffic
        ),
        directory=directory,
        images=images,
        virtual_machines=virtual_machines,
        volumes=volumes,
        leftovers=Leftovers(database, drivers.pools, volumes, host_id=foundation.host.id),
        volume_uploads=volume_uploads,
        snapshots=snapshots,
        snapshot_policies=snapshot_policies,
        snapshot_images=snapshot_images,
        reaper=_make_reaper(reactor, foundation, virtual_machines),
        agent_reconciler=_make_agent_reconciler(reactor, foundation, directory, images.dispatcher, addresses),
        authorizer=ConsoleAuthorizer(
            database,
            foundation.seal,
            revocation,
            MachineSerialPorts(foundation.screens, configuration.layout.logs),
            foreign_hosts.hosts,
        ),
        intake=RecordingIntake(database, files),
        recordings=recordings,
        console_power=ConsolePowerSwitch(database, jobs),
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
                database, configuration.layout.database, pools, traffic.meter, jobs.ended, ReactorLag(reactor)
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
    revocation: ConsoleRevocation,
    screens: ConsoleRetargeting,
    staging: Staging,
    guest_networks: GuestNetworks,
) -> VirtualMachines:
    configuration, database, host_id = foundation.configuration, foundation.database, foundation.host.id
    builder = UserVmBuilder(
        database,
        drivers.pools,
        configuration.layout.logs,
        settings.vnc_address,
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
        end_consoles=revocation.of_machine,
        move_consoles=screens.of_machine,
        networks=guest_networks,
    )


def _no_page() -> None:
    """Stand for the renewal of a page whose certificate a proxy has."""


def _make_console_endpoints(
    foundation: Foundation, directory: AgentDirectory, settings: ZoneSettings
) -> ConsoleEndpoints:
    return ConsoleEndpoints(foundation.database, directory, _console_address(foundation, settings))


def _make_supervision(
    foundation: Foundation, directory: AgentDirectory, settings: ZoneSettings
) -> ConsoleSupervision:
    return ConsoleSupervision(foundation.database, directory, _console_address(foundation, settings))


def _console_address(foundation: Foundation, settings: ZoneSettings) -> Callable[[int, str], PublicEndpoint]:
    """Return how browsers reach a CPVM, by its zone's id and its public address."""

    def endpoint_of(zone_id: int, public_address: str) -> PublicEndpoint:
        return settings.console_endpoint(foundation.zone_names[zone_id], public_address)

    return endpoint_of


def _make_agent_reconciler(
    reactor: Reactor,
    foundation: Foundation,
    directory: AgentDirectory,
    dispatcher: DownloadDispatcher,
    addresses: ProxySettingSender,
) -> AgentReconciler:
    database = foundation.database
    templates = TemplateReconciler(database, directory, dispatcher.wake)
    consoles = ConsoleSessionReconciler(database, directory)
    reconciler = AgentReconciler(reactor, directory)
    reconciler.add(Role.SSVM, templates.reconcile)
    reconciler.add(Role.CPVM, consoles.reconcile)
    reconciler.add(Role.CPVM, ConsoleDraining(database, directory, reactor).reconcile)
    reconciler.add(Role.CPVM, ConsoleRetargeting(database, directory).reconcile)
    limits = ProxySettingSender(database, directory, SESSION_LIMITS)
    reconciler.add(Role.CPVM, lambda agent: limits.send(agent.name))
    reconciler.add(Role.CPVM, lambda agent: addresses.send(agent.name))
    return reconciler
