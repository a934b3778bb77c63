# SPDX-License-Identifier: Apache-2.0
"""The services of SmallCloud under the names that tests use: `cloud.dispatch`, `cloud.machines`."""

from __future__ import annotations

from attrs import define, field

from small_cloud.services import Services
from systemvm.management.accounts.second_factors import SecondFactors
from systemvm.management.accounts.service import AccountService
from systemvm.management.api.traffic import ApiTraffic
from systemvm.management.consoles.endpoint import ConsoleEndpoints
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.guest_networks.service import GuestNetworks
from systemvm.management.image_stores.replicas import ReplicaKeeper
from systemvm.management.image_stores.service import ImageStores
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.recordings.service import Recordings
from systemvm.management.snapshots.copies import SnapshotCopies
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.snapshots.policies import SnapshotPolicies
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.templates.copy_links import CopyLinks
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.extraction import Extraction
from systemvm.management.templates.service import TemplateService
from systemvm.management.templates.upload_orders import UploadOrders
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.service import Volumes
from systemvm.management.volumes.uploads import VolumeUploads
from systemvm.rpc.core.method import MethodTable


@define
class NamedParts:
    """The parts of the groups; a part that no test uses has no name here."""

    jobs: JobRunner = field(init=False)
    dispatch: DownloadDispatcher = field(init=False)
    image_stores: ImageStores = field(init=False)
    orders: UploadOrders = field(init=False)
    extraction: Extraction = field(init=False)
    copy_links: CopyLinks = field(init=False)
    replicas: ReplicaKeeper = field(init=False)
    templates: TemplateService = field(init=False)
    guest_networks: GuestNetworks = field(init=False)
    machines: VirtualMachines = field(init=False)
    storage_pools: StoragePools = field(init=False)
    volumes: Volumes = field(init=False)
    volume_uploads: VolumeUploads = field(init=False)
    snapshot_files: SnapshotFiles = field(init=False)
    snapshots: VolumeSnapshots = field(init=False)
    snapshot_policies: SnapshotPolicies = field(init=False)
    snapshot_images: SnapshotImages = field(init=False)
    snapshot_copies: SnapshotCopies = field(init=False)
    consoles: ConsoleEndpoints = field(init=False)
    revocation: ConsoleRevocation = field(init=False)
    recordings: Recordings = field(init=False)
    hosts: ForeignHosts = field(init=False)
    account_service: AccountService = field(init=False)
    second_factors: SecondFactors = field(init=False)
    traffic: ApiTraffic = field(init=False)
    public_certificates: PublicCertificates = field(init=False)
    control: AgentDirectory = field(init=False)
    agent_methods: MethodTable = field(init=False)
    certificates: AgentCertificates = field(init=False)

    def name_parts(self, services: Services) -> None:
        """Find each part in its group."""
        self.jobs = services.jobs
        self.dispatch = services.images.dispatcher
        self.image_stores = services.images.stores
        self.orders = services.images.upload_orders
        self.extraction = services.images.extraction
        self.copy_links = services.images.copy_links
        self.replicas = services.images.replicas
        self.templates = services.machines.templates
        self.guest_networks = services.machines.guest_networks
        self.machines = services.machines.virtual_machines
        self.storage_pools = services.disks.pools
        self.volumes = services.disks.volumes
        self.volume_uploads = services.disks.uploads
        self.snapshot_files = services.disks.snapshot_files
        self.snapshots = services.disks.snapshots
        self.snapshot_policies = services.disks.snapshot_policies
        self.snapshot_images = services.disks.snapshot_images
        self.snapshot_copies = services.disks.snapshot_copies
        self.consoles = services.consoles.endpoints
        self.revocation = services.consoles.revocation
        self.recordings = services.consoles.recordings
        self.hosts = services.hosts
        self.account_service = services.accounts.accounts
        self.second_factors = services.accounts.second_factors
        self.traffic = services.accounts.traffic
        self.public_certificates = services.public_names.certificates
        self.control = services.control.directory
        self.agent_methods = services.agent_methods
        self.certificates = services.control.certificates
