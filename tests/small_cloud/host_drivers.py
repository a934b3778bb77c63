# SPDX-License-Identifier: Apache-2.0
"""The drivers of the host: fakes of its hypervisor, its root helpers and its primary storage."""

from __future__ import annotations

from typing import Any

from small_cloud.guest_network_services import FakeGuestServices
from small_cloud.hypervisor import FakeHypervisor
from small_cloud.pool_mounts import FakeMounter
from small_cloud.primary_storage import FakePrimary
from systemvm.management.foundation import Foundation
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.primary.pool_directories import HostPoolDirectories
from systemvm.management.primary.pools import PrimaryPools
from systemvm.service.slowness import unscaled


def make_pools(
    foundation: Foundation, primary: FakePrimary, mounter: FakeMounter
) -> PrimaryPools[FakePrimary]:
    """Make the pools: the host's own directory, and those that a test adds."""
    layout = foundation.configuration.layout
    directories = HostPoolDirectories(layout.primary, layout.mounts, mounter, mounter.mountinfo)
    return PrimaryPools(foundation.database, primary, directories, FakePrimary, host_id=foundation.host.id)


def make_drivers(
    hypervisor: FakeHypervisor,
    guest_services: FakeGuestServices,
    primary: FakePrimary,
    pools: PrimaryPools[FakePrimary],
) -> HostDrivers:
    """Combine the fakes, which have only those methods of drivers that services call."""
    fakes: dict[str, Any] = {
        "hypervisor": hypervisor,
        "networks": guest_services,
        "guest_services": guest_services,
        "primary": primary,
        "pools": pools,
    }
    return HostDrivers(**fakes, timeout_scale=unscaled)
