# SPDX-License-Identifier: Apache-2.0
"""The daemon's services for tests, with a real database; agents, hypervisor and storage are fakes.

One zone with an image store, an SSVM and a CPVM whose agents are Up, and two logins: the administrator, and a
user who owns nothing yet.
"""

from __future__ import annotations

import shutil
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from cryptography import x509
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from prepared_database import open_file
from small_cloud.agents import FakeAgents, FakePeer
from small_cloud.foreign_hosts import foreign_hosts
from small_cloud.guest_network_services import FakeGuestServices
from small_cloud.hypervisor import FakeHypervisor
from small_cloud.pool_mounts import FakeMounter
from small_cloud.primary_storage import FakePrimary
from small_cloud.rows import HASHER, NETWORKS, add_system_vm, add_template, principal
from small_cloud.system_vms import FakeDiagnostics, FakeSystemVms
from small_cloud.text_recognizer import FakeRecognizer
from small_cloud.zone_settings import FakeZoneFacts
from systemvm.host.layout import Layout
from systemvm.host.zone import ConsoleConfig, ZoneConfig
from systemvm.management.accounts.second_factors import SecondFactors
from systemvm.management.accounts.service import AccountService
from systemvm.management.alerts.delivery import AlertDelivery
from systemvm.management.api import envelope
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.system_vms import SystemVmControl
from systemvm.management.api.factory import ApiServices, client_resource, command_table
from systemvm.management.api.http import ClientResource, PublicAddress
from systemvm.management.api.job_start import describe_job_error
from systemvm.management.api.passwords import PasswordService
from systemvm.management.api.principal import Principal
from systemvm.management.api.traffic import ApiTraffic
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.draining import ConsoleDraining
from systemvm.management.consoles.endpoint import ConsoleEndpoints
from systemvm.management.consoles.live_sessions import ConsoleSessionQueries
from systemvm.management.consoles.power import ConsolePowerSwitch
from systemvm.management.consoles.proxy_settings import HOST_ADDRESSES, SESSION_LIMITS, ProxySettingSender
from systemvm.management.consoles.retargeting import ConsoleRetargeting
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.consoles.supervision import ConsoleSupervision
from systemvm.management.control.ca_rotation import CaRotation
from systemvm.management.control.certificate_service import CertificateService
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foreign_hosts.access import ApiExchange
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.guest_networks.service import GuestNetworks
from systemvm.management.hypervisors.base import (
    Hypervisor,
)
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.image_stores.inspection import StoreInspection
from systemvm.management.image_stores.migration import StoreMigration
from systemvm.management.image_stores.object_links import ObjectLinks
from systemvm.management.image_stores.replicas import ReplicaKeeper
from systemvm.management.image_stores.service import ImageStores
from systemvm.management.image_stores.staging import Staging
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.pki.public import PublicAuthority
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pool_directories import HostPoolDirectories
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import PoolUsage
from systemvm.management.primary.pools import PrimaryPools
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal
from systemvm.management.public_certificates.overview import PublicNames
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.public_certificates.shelf import CertificateShelf
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.recordings.files import RecordingFiles
from systemvm.management.recordings.intake import RecordingIntake
from systemvm.management.recordings.service import Recordings
from systemvm.management.screens.service import MachineScreens
from systemvm.management.screens.thumbnails import Thumbnails
from systemvm.management.snapshots.copies import SnapshotCopies
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.snapshots.policies import SnapshotPolicies
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates.copy_links import CopyLinks
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.extraction import Extraction
from systemvm.management.templates.service import TemplateService
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.templates.upload_orders import UploadOrders
from systemvm.management.templates.upload_signing import UploadSigner
from systemvm.management.templates.uploads import TemplateUploads
from systemvm.management.templates.zone_copies import ZoneCopies
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.pool_maintenance import PoolMaintenance
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.migration import VolumeMigration
from systemvm.management.volumes.service import Volumes
from systemvm.management.volumes.uploads import VolumeUploads
from systemvm.management.zone_model.catalog import ZoneCatalog
from systemvm.management.zone_model.changes import ModelChanges
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.perform import perform
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadState

ORIGIN = "http://127.0.0.1:8080"
CONSOLE_ORIGIN = "https://cpvm.example.test:8443"
#: What the public CA can sign for: the addresses of NETWORKS.public.
PUBLIC_NAMES = x509.NameConstraints([x509.IPAddress(IPv4Network("203.0.113.0/24"))], None)


if TYPE_CHECKING:

    class EndedJob(Job):
        """A job that has its result."""

        result: dict[str, Any]


@define
class SmallCloud:
    """The services, connected as in the daemon."""

    database: Database
    seal: Seal
    zone: zones.Zone
    store: zones.ImageStore
    host: zones.Host
    ssvm: Instance
    cpvm: Instance
    admin: Principal
    user: Principal
    clock: Clock = field(factory=Clock)
    agents: FakeAgents = field(factory=FakeAgents)
    settings: FakeZoneFacts = field(factory=FakeZoneFacts)
    console: ConsoleConfig = field(factory=lambda: ConsoleConfig(origin=CONSOLE_ORIGIN))
    hypervisor: FakeHypervisor = field(factory=FakeHypervisor)
    recognizer: FakeRecognizer = field(factory=FakeRecognizer)
    guest_services: FakeGuestServices = field(factory=FakeGuestServices)

    authority: ControlAuthority = field(init=False)
    control: AgentDirectory = field(init=False)
    certificates: AgentCertificates = field(init=False)
    primary: FakePrimary = field(init=False)
    mounter: FakeMounter = field(init=False)
    pools: PrimaryPools[FakePrimary] = field(init=False)
    storage_pools: StoragePools = field(init=False)
    system_vms: FakeSystemVms = field(init=False)
    jobs: JobRunner = field(init=False)
    orders: UploadOrders = field(init=False)
    uploads: TemplateUploads = field(init=False)
    dispatch: DownloadDispatcher = field(init=False)
    templates: TemplateService = field(init=False)
    image_stores: ImageStores = field(init=False)
    extraction: Extraction = field(init=False)
    copy_links: CopyLinks = field(init=False)
    replicas: ReplicaKeeper = field(init=False)
    guest_networks: GuestNetworks = field(init=False)
    machines: VirtualMachines = field(init=False)
    volumes: Volumes = field(init=False)
    volume_uploads: VolumeUploads = field(init=False)
    snapshot_files: SnapshotFiles = field(init=False)
    snapshots: VolumeSnapshots = field(init=False)
    snapshot_policies: SnapshotPolicies = field(init=False)
    snapshot_images: SnapshotImages = field(init=False)
    snapshot_copies: SnapshotCopies = field(init=False)
    consoles: ConsoleEndpoints = field(init=False)
    supervision: ConsoleSupervision = field(init=False)
    revocation: ConsoleRevocation = field(init=False)
    recordings: Recordings = field(init=False)
    account_service: AccountService = field(init=False)
    second_factors: SecondFactors = field(init=False)
    alert_delivery: AlertDelivery = field(init=False)
    traffic: ApiTraffic = field(init=False)
    diagnostics: FakeDiagnostics = field(init=False)
    sites: PublicSites = field(init=False)
    public_certificates: PublicCertificates = field(init=False)
    acme: AcmeRenewal = field(init=False)
    agent_methods: MethodTable = field(init=False)
    authorizer: ConsoleAuthorizer = field(init=False)
    host_peers: dict[str, ApiExchange] = field(factory=dict)  # the APIs of other hosts, by name or address
    host_names: dict[str, str] = field(factory=dict)  # addresses, by name
    hosts: ForeignHosts = field(init=False)
    ssvm_peer: FakePeer = field(init=False)
    table: CommandTable = field(init=False)
    configuration: Configuration = field(init=False)

    def __attrs_post_init__(self) -> None:
        secondary = Path(self.store.host_path or "")
        directory = secondary.parent
        file = ZoneConfig(self.zone.name, NETWORKS, [IPv4Address("203.0.113.10")])
        self.configuration = Configuration(Layout(directory), ManagementConfig(), [file])
        self.primary = FakePrimary(directory)
        self.system_vms = FakeSystemVms(self.database)
        self.ssvm_peer = self.agents.connect(self.ssvm.instance_name, Role.SSVM)
        self.ssvm_peer.answers["template.download"] = lambda _: RpcError(NOT_CONNECTED, "not now")
        self.agents.connect(self.cpvm.instance_name, Role.CPVM)
        self.jobs = JobRunner(self.database, self.clock, describe_job_error)
        sources = TemplateSources(self.seal)
        usage = StoreUsage(self.database, self.agents, self.settings)
        signer = UploadSigner(self.seal)
        self.orders = UploadOrders(signer, self.settings, (ORIGIN,))
        issuer = PublicAuthority(CertificateAuthority.create("public CA", PUBLIC_NAMES))
        self.sites = PublicSites(lambda zone_name: self.console, issuer, CertificateShelf(self.seal))
        self.settings.sites = self.sites
        self.copy_links = CopyLinks(
            self.clock,
            self.database,
            self.agents,
            self.settings,
            self.seal,
            lambda: issuer.roots_pem,
            self.sites.root_of,
        )
        self.dispatch = DownloadDispatcher(
            self.clock,
            self.database,
            self.agents,
            self.settings,
            sources,
            self.orders,
            usage,
            self.copy_links,
        )
        self.dispatch.on_end(self.copy_links.ended)
        self.revocation = ConsoleRevocation(self.database, self.agents)
        staging = Staging(self.clock, self.database, self.settings, self.dispatch.wake)
        self.mounter = FakeMounter(directory)
        self.pools = PrimaryPools(
            self.database,
            self.primary,
            HostPoolDirectories(directory, self.mounter.mounts, self.mounter, self.mounter.mountinfo),
            FakePrimary,
            host_id=self.host.id,
        )
        self.storage_pools = StoragePools(
            self.database,
            self.pools,
            PoolUsage(self.clock, self.pools.directories),
            directory,
            self.clock,
            host_id=self.host.id,
        )
        builder = UserVmBuilder(
            self.database,
            self.pools,
            directory,
            lambda zone: "10.11.0.1",
            self.seal,
            host_id=self.host.id,
            staging=staging,
        )
        self.guest_networks = GuestNetworks(
            self.clock,
            self.database,
            self.guest_services,
            self.guest_services,
            self.configuration.labels,
            self.seal,
            host_id=self.host.id,
        )
        self.machines = VirtualMachines(
            self.database,
            cast(Hypervisor, self.hypervisor),
            builder,
            self.seal,
            host_id=self.host.id,
            end_consoles=self.revocation.of_machine,
            move_consoles=ConsoleRetargeting(self.database, self.agents).of_machine,
            networks=self.guest_networks,
        )
        self.machines.subscribe()
        self.volumes = Volumes(
            self.database, self.pools, cast(Hypervisor, self.hypervisor), self.machines.lock
        )
        self.snapshot_files = SnapshotFiles(self.clock, self.database, self.agents, maybeDeferred)
        self.snapshots = VolumeSnapshots(
            self.database,
            self.pools,
            cast(Hypervisor, self.hypervisor),
            self.machines.lock,
            self.volumes,
            self.snapshot_files,
            self.settings,
        )
        self.snapshot_policies = SnapshotPolicies(
            self.clock, self.database, self.snapshots, self.jobs, self.settings, host_id=self.host.id
        )
        self.templates = TemplateService(
            self.database, self.dispatch, self.machines, usage, self.settings, sources
        )
        self.replicas = ReplicaKeeper(self.clock, self.database, self.settings, self.dispatch.wake)
        self.image_stores = ImageStores(
            self.database, self.agents, self.settings, self.replicas.changed, StoreKeys(self.seal)
        )
        self.extraction = Extraction(
            self.clock, self.database, self.agents, self.settings, self.sites, staging,
            self.copy_links.links_of_zone,
        )  # fmt: skip
        self.snapshot_images = SnapshotImages(
            self.clock, self.database, self.snapshots, self.templates, self.extraction
        )
        self.uploads = TemplateUploads(
            self.database, self.agents, self.dispatch, usage, self.settings, sources, signer
        )
        self.volume_uploads = VolumeUploads(
            self.database, self.templates, self.uploads, self.volumes, self.pools, self.machines,
            host_id=self.host.id,
        )  # fmt: skip
        self.dispatch.on_end(self.volume_uploads.changed)
        self.alert_delivery = AlertDelivery(self.clock, self.database, self.seal, self.host.name)
        self.second_factors = SecondFactors(self.database, self.seal)
        self.traffic = ApiTraffic.of(self.database, self.clock.seconds)
        self.account_service = AccountService(
            self.database,
            self.seal,
            PasswordService(HASHER),
            self.machines,
            self.volumes,
            self.snapshots,
            self.templates,
            self.revocation,
        )
        self.consoles = ConsoleEndpoints(
            self.database, self.agents, lambda zone_id, address: self.sites.console(self.zone.name, address)
        )
        self.public_certificates = PublicCertificates(self.database, self.seal, self.sites, roots=list)
        self.public_certificates.senders.append(self.extraction.send_certificates)
        self.acme = AcmeRenewal(
            self.clock,
            self.database,
            self.agents,
            self.seal,
            self.public_certificates,
            self.settings.secondary_storage,
        )
        limits = ProxySettingSender(self.database, self.agents, SESSION_LIMITS)

        async def configured() -> None:
            await limits.send_all()
            await self.public_certificates.changed()
            await self.alert_delivery.changed()

        self.supervision = ConsoleSupervision(
            self.database, self.agents, lambda zone_id, address: self.sites.console(self.zone.name, address)
        )
        self.diagnostics = FakeDiagnostics(directory)
        self.agent_methods = MethodTable("agents", "1")
        self.dispatch.add_methods(self.agent_methods)
        serial_ports = MachineSerialPorts(
            ScreenAuthority(CertificateAuthority.create("screen CA")), directory
        )
        addresses = ProxySettingSender(self.database, self.agents, HOST_ADDRESSES)
        self.hosts = foreign_hosts(
            self.clock, self.database, self.seal, self.host_peers, self.host_names, self.revocation, addresses
        )
        self.authorizer = ConsoleAuthorizer(
            self.database, self.seal, self.revocation, serial_ports, self.hosts
        )
        self.authorizer.add_methods(self.agent_methods)
        files = RecordingFiles(self.database, self.agents)
        RecordingIntake(self.database, files).add_methods(self.agent_methods)
        self.recordings = Recordings(self.clock, self.database, files, self.seal)
        ConsolePowerSwitch(self.database, self.jobs).add_methods(self.agent_methods)
        self.authority = ControlAuthority(CertificateAuthority.create("control CA"))
        self.control = AgentDirectory(lambda name: True)
        self.certificates = AgentCertificates(self.database, self.control, self.authority, self.clock)
        self.certificates.subscribe()
        rotation = CaRotation(self.clock, self.control, self.authority, lambda name: True, lambda: None)
        rotation.subscribe()
        screens = MachineScreens(
            self.clock, self.database, cast(Hypervisor, self.hypervisor), self.recognizer
        )
        catalog = ZoneCatalog(self.configuration)
        self.database.run_now(catalog.load)
        zone_copies = ZoneCopies(self.clock, self.database, self.settings, self.dispatch.wake)
        self.snapshot_copies = SnapshotCopies(
            self.database, self.snapshot_images, zone_copies, self.snapshot_files, self.settings,
            host_id=self.host.id,
        )  # fmt: skip
        inspection = StoreInspection(self.database, self.agents)
        services = ApiServices(
            database=self.database,
            jobs=self.jobs,
            templates=self.templates,
            inspection=inspection,
            object_links=ObjectLinks(self.database, inspection, self.extraction, self.settings),
            zone_copies=zone_copies,
            migrations=StoreMigration(self.clock, self.database, self.settings, self.dispatch.wake),
            image_stores=self.image_stores,
            hosts=self.hosts,
            system_vms=cast(SystemVmControl, self.system_vms),
            virtual_machines=self.machines,
            volumes=self.volumes,
            volume_uploads=self.volume_uploads,
            snapshots=self.snapshots,
            snapshot_policies=self.snapshot_policies,
            snapshot_images=self.snapshot_images,
            snapshot_copies=self.snapshot_copies,
            consoles=self.consoles,
            console_sessions=ConsoleSessionQueries(self.database, self.agents),
            end_console=self.revocation.of_session,
            send_machine_data=self.guest_networks.send_data,
            restart_network=self.guest_networks.restart,
            recordings=self.recordings,
            supervision=self.supervision,
            draining=ConsoleDraining(self.database, self.agents, self.clock),
            on_configured=configured,
            screens=screens,
            thumbnails=Thumbnails(self.clock, screens, maybeDeferred),
            player_url=f"{ORIGIN}/recordings.html",
            diagnostics=self.diagnostics,
            diagnostics_url=f"{ORIGIN}/diagnostics",
            guest_bridge=lambda zone: "cloudbr3",
            networks_of=lambda zone: self.configuration.zone(zone).networks,
            model=ModelChanges(self.database, catalog, self.configuration.labels, lambda: None),
            pools=self.storage_pools,
            pool_maintenance=PoolMaintenance(self.database, self.machines, self.volumes),
            volume_migration=VolumeMigration(
                self.database,
                self.pools,
                cast(Hypervisor, self.hypervisor),
                self.machines.lock,
                self.volumes,
            ),
            host_id=self.host.id,
            accounts=self.account_service,
            second_factors=self.second_factors,
            alert_delivery=self.alert_delivery,
            seal=self.seal,
            seconds=self.clock.seconds,
            extraction=self.extraction,
            uploads=TemplateUploads(
                self.database, self.agents, self.dispatch, usage, self.settings, sources, signer
            ),
            is_extraction_disabled=lambda name: self.settings.secondary_storage(name).disable_extraction,
            storage_limit_gib=lambda name: (
                self.settings.secondary_storage(name).max_account_secondary_storage_gib
            ),
            public_certificates=self.public_certificates,
            acme=self.acme,
            public_names=PublicNames(
                self.sites,
                lambda zone_name: self.console,
                self.settings.secondary_storage,
                lambda: [*self.agents.up(Role.CPVM), *self.agents.up(Role.SSVM)],
            ),
            renew_page=lambda: None,
            throttle=self.traffic.throttle,
            certificates=CertificateService(
                self.clock, self.control, self.authority, self.certificates, rotation
            ),
        )
        self.table = command_table(services)

    def client(self) -> ClientResource:
        """Return `/client` as the daemon serves it."""
        from twisted.internet import reactor

        directory = Authenticator(self.database, self.seal, HASHER)
        return client_resource(
            self.table,
            self.database,
            directory,
            self.second_factors,
            self.clock,
            PublicAddress.of(PublicEndpoint.parse(ORIGIN)),
            self.revocation,
            self.traffic,
            reactor.callFromThread,  # type: ignore[attr-defined]
        )

    async def call(self, command: str, as_user: Principal | None = None, /, **parameters: Any) -> Any:
        """Call a command and return what stands under `<command>response`."""
        found = self.table.find(command)
        result = await found.run(as_user or self.admin, parameters, "192.0.2.1", "request-1")
        return envelope.result_body(found, result)

    async def job(self, command: str, as_user: Principal | None = None, /, **parameters: Any) -> EndedJob:
        """Start an asynchronous command, and return its job once it has ended."""
        started = await self.call(command, as_user, **parameters)
        ended = await self.jobs.wait(started["jobid"])
        assert ended.result is not None
        return cast("EndedJob", ended)

    async def from_agent(self, vm: Instance, method: str, params: Any) -> Any:
        """Make a call of a system VM's agent, checked and converted as on the wire."""
        role = Role.SSVM if vm.type is InstanceType.SECONDARY_STORAGE else Role.CPVM
        call = Call(Caller(vm.instance_name, role.value), "request-2", None)
        return await perform(Clock(), self.agent_methods, call, method, params)

    def add_template(
        self,
        *,
        state: DownloadState = DownloadState.DOWNLOADED,
        owner: Principal | None = None,
        **columns: Any,
    ) -> tuple[Template, StoreRef]:
        """Add a template that exists already."""
        return self.database.run_now(
            add_template, self.zone.id, self.store.id, state, owner or self.admin, columns
        )

    def add_system_vm(self, kind: InstanceType) -> Instance:
        return self.database.run_now(add_system_vm, kind, self.zone.id, self.host.id)

    def update_instance(self, vm: Instance, **changes: Any) -> Instance:
        return self.database.run_now(instances.update, vm.id, **changes)

    def instance(self, vm_id: int) -> Instance:
        return self.database.run_now(instances.by_id, vm_id)


def make(directory: Path, pristine: Path, hypervisor: FakeHypervisor | None = None) -> SmallCloud:
    """Return a cloud in `directory`, on a copy of a filled database file."""
    shutil.copy(pristine, directory / "systemvm.sqlite")
    shutil.copy(pristine.with_name("seal.key"), directory / "seal.key")
    secondary = directory / "secondary"
    secondary.mkdir()
    database = open_file(directory / "systemvm.sqlite")
    [store] = database.run_now(zones.list_stores)
    store = database.run_now(zones.store_rows.update, store.id, host_path=str(secondary))
    ssvm, cpvm = database.run_now(instances.list_system)
    return SmallCloud(
        database=database,
        seal=Seal.open_key(directory),
        zone=database.run_now(zones.list_zones)[0],
        store=store,
        host=database.run_now(zones.list_hosts)[0],
        ssvm=ssvm,
        cpvm=cpvm,
        admin=database.run_now(principal, "admin"),
        user=database.run_now(principal, "ulla"),
        hypervisor=hypervisor or FakeHypervisor(),
    )
