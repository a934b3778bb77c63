# SPDX-License-Identifier: Apache-2.0
"""The services for primary storage: pools, volumes, and snapshots of volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.threads import deferToThread

from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foundation import Foundation
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.image_services import ImageServices
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import PoolUsage
from systemvm.management.snapshots.copies import SnapshotCopies
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.images import SnapshotImages
from systemvm.management.snapshots.policies import SnapshotPolicies
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.templates.service import TemplateService
from systemvm.management.virtual_machines.pool_maintenance import PoolMaintenance
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.leftovers import Leftovers
from systemvm.management.volumes.migration import VolumeMigration
from systemvm.management.volumes.service import Volumes
from systemvm.management.volumes.uploads import VolumeUploads
from systemvm.rpc.stream.transport import Reactor


@frozen
class VolumeServices:
    """What commands ask about disks."""

    pools: StoragePools
    maintenance: PoolMaintenance
    volumes: Volumes
    migration: VolumeMigration
    uploads: VolumeUploads
    leftovers: Leftovers
    snapshots: VolumeSnapshots
    snapshot_files: SnapshotFiles
    snapshot_policies: SnapshotPolicies
    snapshot_images: SnapshotImages
    snapshot_copies: SnapshotCopies

    async def agent_up(self) -> None:
        """Continue what waited for an SSVM."""
        self.snapshots.start_deletions()
        await self.volumes.finish_deletions()
        await self.leftovers.delete()


def make_volume_services(
    reactor: Reactor,
    foundation: Foundation,
    drivers: HostDrivers,
    directory: AgentDirectory,
    settings: ZoneSettings,
    jobs: JobRunner,
    images: ImageServices,
    templates: TemplateService,
    virtual_machines: VirtualMachines,
    *,
    in_thread: Callable[..., Any] = deferToThread,
) -> VolumeServices:
    """Make all parts; nothing runs before their `start`."""
    database, host_id, lock = foundation.database, foundation.host.id, virtual_machines.lock
    volumes = Volumes(database, drivers.pools, drivers.hypervisor, lock)
    files = SnapshotFiles(reactor, database, directory, in_thread)
    snapshots = VolumeSnapshots(database, drivers.pools, drivers.hypervisor, lock, volumes, files, settings)
    uploads = VolumeUploads(
        database, templates, images.uploads, volumes, drivers.pools, virtual_machines, host_id=host_id
    )
    images.dispatcher.on_end(uploads.changed)
    snapshot_images = SnapshotImages(reactor, database, snapshots, templates, images.extraction)
    return VolumeServices(
        pools=StoragePools(
            database,
            drivers.pools,
            PoolUsage(reactor, drivers.pools.directories),
            foundation.configuration.layout.primary,
            reactor,
            host_id=host_id,
        ),
        maintenance=PoolMaintenance(database, drivers.pools, virtual_machines, volumes),
        volumes=volumes,
        migration=VolumeMigration(database, drivers.pools, drivers.hypervisor, lock, volumes),
        uploads=uploads,
        leftovers=Leftovers(database, drivers.pools, volumes, drivers.uefi_variables, host_id=host_id),
        snapshots=snapshots,
        snapshot_files=files,
        snapshot_policies=SnapshotPolicies(reactor, database, snapshots, jobs, settings, host_id=host_id),
        snapshot_images=snapshot_images,
        snapshot_copies=SnapshotCopies(
            database, snapshot_images, images.zone_copies, files, settings, host_id=host_id
        ),
    )
