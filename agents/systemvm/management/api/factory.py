# SPDX-License-Identifier: Apache-2.0
"""Creates the API from the daemon's services."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from attrs import field, frozen

from systemvm.management.accounts.second_factors import SecondFactors
from systemvm.management.accounts.service import AccountService
from systemvm.management.alerts.delivery import AlertDelivery
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.change_stream import CallInReactor, ChangeStreamResource, follow_changes
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.absent_kinds import AbsentKindCommands
from systemvm.management.api.commands.accounts import AccountCommands
from systemvm.management.api.commands.address_ranges import RANGES
from systemvm.management.api.commands.alert_deliveries import AlertDeliveryCommands
from systemvm.management.api.commands.alerts import AlertCommands
from systemvm.management.api.commands.annotations import AnnotationCommands
from systemvm.management.api.commands.api_limits import ApiLimitCommands
from systemvm.management.api.commands.capacity import CapacityCommands
from systemvm.management.api.commands.certificates import CertificateCommands, CertificateControl
from systemvm.management.api.commands.configurations import ConfigurationCommands, FileValues
from systemvm.management.api.commands.console_drain import ConsoleDrainCommands
from systemvm.management.api.commands.console_sessions import ConsoleSessionCommands
from systemvm.management.api.commands.console_watch import ConsoleWatchCommands, ConsoleWatcher
from systemvm.management.api.commands.consoles import ConsoleCommands, ConsoleEndpointCreator
from systemvm.management.api.commands.diagnostics import DiagnosticsCommands, DiagnosticsRunner
from systemvm.management.api.commands.disk_offerings import DISK_OFFERINGS, DiskOfferingCommands
from systemvm.management.api.commands.domains import DomainCommands
from systemvm.management.api.commands.events import EventCommands
from systemvm.management.api.commands.extracts import ExtractCommands
from systemvm.management.api.commands.guest_networks import GUEST_NETWORKS
from systemvm.management.api.commands.hosts import HostCommands
from systemvm.management.api.commands.hypervisors import hypervisor_commands
from systemvm.management.api.commands.image_stores import ImageStoreCommands
from systemvm.management.api.commands.infrastructure import InfrastructureCommands
from systemvm.management.api.commands.jobs import JobCommands
from systemvm.management.api.commands.machine_isos import MachineIsoCommands
from systemvm.management.api.commands.machine_passwords import MachinePasswordCommands
from systemvm.management.api.commands.machine_restoration import MachineRestorationCommands
from systemvm.management.api.commands.machine_scaling import MachineScalingCommands
from systemvm.management.api.commands.machine_update import MachineUpdateCommands
from systemvm.management.api.commands.migrations import MigrationCommands
from systemvm.management.api.commands.model_commands import commands_of
from systemvm.management.api.commands.network_offerings import NetworkOfferingCommands
from systemvm.management.api.commands.network_restart import NetworkRestartCommand
from systemvm.management.api.commands.networks import NetworkCommands
from systemvm.management.api.commands.nics import NicCommands
from systemvm.management.api.commands.offerings import OFFERINGS, OfferingCommands
from systemvm.management.api.commands.os_types import os_type_commands
from systemvm.management.api.commands.physical_networks import NETWORKS
from systemvm.management.api.commands.places import PLACES
from systemvm.management.api.commands.public_certificates import AcmeRegistrar, PublicCertificateCommands
from systemvm.management.api.commands.public_names import AcmeOrders, PublicNameCommands
from systemvm.management.api.commands.recording_rules import RecordingRuleCommands
from systemvm.management.api.commands.recordings import RecordingCommands
from systemvm.management.api.commands.requested_certificates import RequestedCertificateCommands
from systemvm.management.api.commands.resource_limits import ResourceLimitCommands
from systemvm.management.api.commands.role_permissions import RolePermissionCommands
from systemvm.management.api.commands.roles import RoleCommands
from systemvm.management.api.commands.screens import ScreenCommands
from systemvm.management.api.commands.second_factors import SecondFactorCommands
from systemvm.management.api.commands.snapshot_copy import SnapshotCopyCommands
from systemvm.management.api.commands.snapshot_images import SnapshotImageCommands
from systemvm.management.api.commands.snapshot_policies import SnapshotPolicyCommands
from systemvm.management.api.commands.snapshots import SnapshotCommands
from systemvm.management.api.commands.source_certificates import SourceCertificateCommands
from systemvm.management.api.commands.storage_pools import StoragePoolCommands
from systemvm.management.api.commands.storage_providers import StorageProviderCommands
from systemvm.management.api.commands.store_migrations import StoreMigrationCommands
from systemvm.management.api.commands.store_objects import StoreObjectCommands
from systemvm.management.api.commands.system_vm_placement import SystemVmPlacementCommands
from systemvm.management.api.commands.system_vms import SystemVmCommands, SystemVmControl
from systemvm.management.api.commands.tags import TagCommands
from systemvm.management.api.commands.template_copy import TemplateCopyCommands
from systemvm.management.api.commands.template_permissions import TemplatePermissionCommands
from systemvm.management.api.commands.template_preparation import TemplatePreparationCommands
from systemvm.management.api.commands.template_retry import TemplateRetryCommands
from systemvm.management.api.commands.template_update import TemplateUpdateCommands
from systemvm.management.api.commands.templates import TemplateCommands
from systemvm.management.api.commands.uploads import UploadCommands
from systemvm.management.api.commands.usage import UsageCommands
from systemvm.management.api.commands.usage_records import UsageRecordCommands
from systemvm.management.api.commands.user_keys import UserKeyCommands
from systemvm.management.api.commands.users import UserCommands
from systemvm.management.api.commands.virtual_machines import VirtualMachineCommands
from systemvm.management.api.commands.volume_changes import VolumeChangeCommands
from systemvm.management.api.commands.volume_uploads import VolumeUploadCommands
from systemvm.management.api.commands.volumes import VolumeCommands
from systemvm.management.api.commands.zones import ZoneCommands
from systemvm.management.api.discovery import discovery_command
from systemvm.management.api.http import ApiResource, ClientResource, PublicAddress
from systemvm.management.api.job_start import describe_job_error
from systemvm.management.api.kept_answers import KeptAnswers
from systemvm.management.api.login import LOGIN, LOGOUT, LoginService
from systemvm.management.api.login import Consoles as LoginConsoles
from systemvm.management.api.rights import Rights
from systemvm.management.api.sessions import Sessions
from systemvm.management.api.throttle import ApiThrottle
from systemvm.management.api.traffic import ApiTraffic
from systemvm.management.config import ExpungeConfig
from systemvm.management.consoles.draining import ConsoleDraining
from systemvm.management.consoles.live_sessions import ConsoleSessionQueries
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.image_stores.inspection import StoreInspection
from systemvm.management.image_stores.migration import StoreMigration
from systemvm.management.image_stores.object_links import ObjectLinks
from systemvm.management.image_stores.service import ImageStores
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.public_certificates.overview import PublicNames
from systemvm.management.public_certificates.requests import RequestedCertificates
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.recordings.service import Recordings
from systemvm.management.resource_limits.limits import ZoneLimit
from systemvm.management.screens.service import Screens
from systemvm.management.screens.thumbnails import Thumbnails
from systemvm.management.snapshots.copies import SnapshotCopies
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.snapshots.policies import SnapshotPolicies
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.state.database import Database
from systemvm.management.templates.extraction import Extraction
from systemvm.management.templates.service import TemplateService
from systemvm.management.templates.uploads import TemplateUploads
from systemvm.management.templates.zone_copies import ZoneCopies
from systemvm.management.virtual_machines.pool_maintenance import PoolMaintenance
from systemvm.management.virtual_machines.restoration import MachineRestoration
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.migration import VolumeMigration
from systemvm.management.volumes.service import Volumes
from systemvm.management.volumes.uploads import VolumeUploads
from systemvm.management.zone_model.changes import ModelChanges
from systemvm.rpc.stream.transport import Reactor


class AcmeService(AcmeRegistrar, AcmeOrders, Protocol):
    """Registers accounts of ACME servers and orders from them (`acme_renewal.py`)."""


@frozen
class ApiServices:
    """The services that commands call."""

    database: Database
    seal: Seal
    jobs: JobRunner
    templates: TemplateService
    zone_copies: ZoneCopies
    image_stores: ImageStores
    migrations: StoreMigration
    inspection: StoreInspection
    object_links: ObjectLinks
    hosts: ForeignHosts
    system_vms: SystemVmControl
    virtual_machines: VirtualMachines
    volumes: Volumes
    volume_uploads: VolumeUploads
    snapshots: VolumeSnapshots
    snapshot_policies: SnapshotPolicies
    snapshot_images: SnapshotImages
    snapshot_copies: SnapshotCopies
    consoles: ConsoleEndpointCreator
    console_sessions: ConsoleSessionQueries
    end_console: Callable[[str], Awaitable[None]]  # by the session's id
    send_machine_data: Callable[[int], Awaitable[None]]  # by the VM's number
    restart_network: Callable[[int], Awaitable[None]]  # by the network's number
    recordings: Recordings
    supervision: ConsoleWatcher
    draining: ConsoleDraining
    player_url: str  # of the page that plays them
    on_configured: Callable[[], Awaitable[None]]  # called when a setting has changed
    screens: Screens
    thumbnails: Thumbnails
    diagnostics: DiagnosticsRunner
    diagnostics_url: str  # the base of the URLs of diagnostics zips
    guest_bridge: Callable[[str], str | None]  # by zone name
    model: ModelChanges
    pools: StoragePools
    pool_maintenance: PoolMaintenance
    volume_migration: VolumeMigration
    host_id: int
    certificates: CertificateControl
    public_certificates: PublicCertificates
    acme: AcmeService
    public_names: PublicNames
    requested_certificates: RequestedCertificates
    renew_page: Callable[[], None]
    accounts: AccountService
    second_factors: SecondFactors
    alert_delivery: AlertDelivery
    throttle: ApiThrottle
    extraction: Extraction
    uploads: TemplateUploads
    is_extraction_disabled: Callable[[str], bool]  # by zone name
    storage_limit_gib: ZoneLimit  # of each account, by zone name
    values_of_files: FileValues  # of settings
    expunge: ExpungeConfig = field(factory=ExpungeConfig)
    seconds: Callable[[], float] = time.monotonic  # for limits of rates


def command_table(services: ApiServices) -> CommandTable:
    """Create all commands and register their jobs' handlers. Call it before `JobRunner.resume_pending`."""
    database, jobs = services.database, services.jobs
    table = CommandTable((LOGIN, LOGOUT))
    jobs.describe = partial(describe_job_error, table)
    rights = Rights(table)
    table.add(
        discovery_command(table),
        *ZoneCommands(database, services.expunge).commands(),
        *HostCommands(database, services.hosts, jobs, services.model).commands(),
        *InfrastructureCommands(database).commands(),
        *StoragePoolCommands(
            database, services.pools, services.pool_maintenance, services.model, jobs
        ).commands(),
        *MigrationCommands(database, services.volume_migration, services.pools, jobs).commands(),
        *CapacityCommands(database, services.pools).commands(),
        *OfferingCommands(database).commands(),
        *DiskOfferingCommands(database).commands(),
        *commands_of(
            (*PLACES, *NETWORKS, *RANGES, *GUEST_NETWORKS, *OFFERINGS, *DISK_OFFERINGS), services.model, jobs
        ),
        *hypervisor_commands(),
        *ImageStoreCommands(database, services.image_stores).commands(),
        *StoreObjectCommands(database, services.inspection, services.object_links, jobs).commands(),
        *StoreMigrationCommands(database, services.migrations, jobs).commands(),
        *NetworkCommands(database).commands(),
        *NetworkOfferingCommands(database, services.model.labels).commands(),
        *NetworkRestartCommand(database, services.restart_network, jobs).commands(),
        *NicCommands(database).commands(),
        *TagCommands(database, jobs).commands(),
        *AnnotationCommands(database).commands(),
        *AbsentKindCommands(database).commands(),
        *StorageProviderCommands(database).commands(),
        *VolumeCommands(database).commands(),
        *VolumeChangeCommands(
            database,
            services.volumes,
            services.snapshots,
            services.pools,
            services.volume_uploads,
            jobs,
            host_id=services.host_id,
        ).commands(),
        *SnapshotCommands(
            database, services.snapshots, services.snapshot_policies, services.snapshot_copies, jobs
        ).commands(),
        *SnapshotPolicyCommands(database).commands(),
        *VolumeUploadCommands(database, services.volume_uploads, jobs).commands(),
        *SnapshotCopyCommands(database, services.snapshot_copies, jobs).commands(),
        *SnapshotImageCommands(
            database, services.snapshot_images, jobs, services.is_extraction_disabled
        ).commands(),
        *os_type_commands(),
        *TemplateCommands(database, services.templates, jobs).commands(),
        *TemplateUpdateCommands(database).commands(),
        *TemplatePreparationCommands(
            database, services.virtual_machines, host_id=services.host_id
        ).commands(),
        *TemplatePermissionCommands(database).commands(),
        *TemplateCopyCommands(database, services.zone_copies, jobs).commands(),
        *TemplateRetryCommands(database, services.templates).commands(),
        *UploadCommands(database, services.uploads).commands(),
        *SourceCertificateCommands(database).commands(),
        *ExtractCommands(database, services.extraction, jobs, services.is_extraction_disabled).commands(),
        *SystemVmPlacementCommands(database).commands(),
        *SystemVmCommands(database, services.system_vms, services.draining, jobs).commands(),
        *VirtualMachineCommands(
            database,
            services.virtual_machines,
            jobs,
            services.guest_bridge,
            services.pools,
            services.seal,
            host_id=services.host_id,
            expunge=services.expunge,
        ).commands(),
        *MachineIsoCommands(database, services.virtual_machines.iso_drives, jobs).commands(),
        *MachinePasswordCommands(database, services.virtual_machines, jobs, services.seal).commands(),
        *MachineRestorationCommands(
            database,
            MachineRestoration(database, services.virtual_machines, services.volumes),
            services.pools,
            jobs,
            services.seal,
        ).commands(),
        *MachineScalingCommands(database, services.virtual_machines, jobs).commands(),
        *MachineUpdateCommands(database, services.send_machine_data).commands(),
        *AccountCommands(database, services.accounts, jobs, rights, services.storage_limit_gib).commands(),
        *UserKeyCommands(database, services.accounts, rights).commands(),
        *SecondFactorCommands(database, services.second_factors, rights, services.seconds).commands(),
        *RoleCommands(database, table).commands(),
        *RolePermissionCommands(database, table).commands(),
        *DomainCommands(database, services.accounts, jobs, rights).commands(),
        *UserCommands(database, services.accounts, jobs, rights).commands(),
        *UsageCommands(database).commands(),
        *UsageRecordCommands(database).commands(),
        *ApiLimitCommands(database, services.throttle).commands(),
        *ResourceLimitCommands(database, services.storage_limit_gib).commands(),
        *ConsoleCommands(services.consoles).commands(),
        *ConsoleSessionCommands(services.console_sessions, services.end_console).commands(),
        *ConsoleWatchCommands(services.supervision).commands(),
        *ConsoleDrainCommands(services.draining).commands(),
        *RecordingCommands(services.recordings, services.player_url).commands(),
        *RecordingRuleCommands(database).commands(),
        *ConfigurationCommands(
            database, services.on_configured, services.seal.close, services.values_of_files
        ).commands(),
        *ScreenCommands(services.screens, services.thumbnails, jobs).commands(),
        *DiagnosticsCommands(database, services.diagnostics, jobs, services.diagnostics_url).commands(),
        *EventCommands(database).commands(),
        *AlertCommands(database, jobs).commands(),
        *AlertDeliveryCommands(services.alert_delivery).commands(),
        *JobCommands(database, services.seal).commands(),
        *CertificateCommands(database, services.certificates, jobs).commands(),
        *PublicCertificateCommands(database, services.public_certificates, services.acme, jobs).commands(),
        *RequestedCertificateCommands(services.requested_certificates, jobs).commands(),
        *PublicNameCommands(
            database,
            services.public_names,
            services.public_certificates,
            services.acme,
            jobs,
            services.renew_page,
        ).commands(),
    )
    return table


def client_resource(
    table: CommandTable,
    database: Database,
    directory: Authenticator,
    second_factors: SecondFactors,
    reactor: Reactor,
    front: PublicAddress,
    consoles: LoginConsoles,
    traffic: ApiTraffic,
    call_in_reactor: CallInReactor,
) -> ClientResource:
    """Create `/client`, a child of the page's root; `front` is the page's address as browsers see it."""
    sessions = Sessions(database)
    login = LoginService(directory, sessions, second_factors, reactor, consoles)
    feed = follow_changes(database.changes, call_in_reactor)
    return ClientResource(
        ApiResource(
            table,
            directory,
            sessions,
            login,
            KeptAnswers(database.changes),
            traffic,
            front=front,
        ),
        ChangeStreamResource(reactor, feed, sessions, front),
    )
