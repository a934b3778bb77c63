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
from systemvm.management.primary.uefi_variables import UefiVariables
from systemvm.service.slowness import unscaled


def make_pools(
    foundation: Foundation, primary: FakePrimary, mounter: FakeMounter
) -> PrimaryPools[FakePrimary]:
    """Make the pools: the host's own directory, and those that a test adds."""
    layout = foundation.configuration.layout
    directories = HostPoolDirectories(layout.primary, layout.mounts, mounter, mounter.mountinfo)
    return PrimaryPools(foundation.database, primary, directories, FakePrimary, host_id=foundation.host.id)


def make_variables(foundation: Foundation) -> UefiVariables:
    """Make the UEFI variables of VMs, by a file of a few bytes in the place of Debian's."""
    layout = foundation.configuration.layout
    of_new_machine = layout.primary / "OVMF_VARS_4M.fd"
    of_new_machine.write_bytes(b"no variables")
    variables = UefiVariables(layout.uefi_variables, lambda _: of_new_machine)
    variables.open()
    return variables


def make_drivers(
    hypervisor: FakeHypervisor,
    guest_services: FakeGuestServices,
    primary: FakePrimary,
    pools: PrimaryPools[FakePrimary],
    variables: UefiVariables,
) -> HostDrivers:
    """Combine the fakes, which have only those methods of drivers that services call."""
    fakes: dict[str, Any] = {
        "hypervisor": hypervisor,
        "networks": guest_services,
        "guest_services": guest_services,
        "primary": primary,
        "pools": pools,
        "uefi_variables": variables,
    }
    return HostDrivers(**fakes, timeout_scale=unscaled)
