# SPDX-License-Identifier: Apache-2.0
"""The drivers of this host: hypervisor, networks and primary storage."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen
from twisted.logger import Logger

from systemvm.host.accelerator import Accelerator, GuestTimeoutScale
from systemvm.management.foundation import Foundation
from systemvm.management.guest_networks.driver import GuestServicesDriver
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.launchers import SocketLauncher
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.mount_helper import PoolMounts
from systemvm.management.network_helper import NetworkDriver
from systemvm.management.primary.pool_directories import HostPoolDirectories
from systemvm.management.primary.pools import PrimaryPools
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.primary.uefi_variables import UefiVariables
from systemvm.service.slowness import TimeoutScale

_log = Logger()
#: An incomplete file of a pool that nobody has written to for this long is of a daemon that was killed.
_LEFTOVERS_AGE_S = 86_400.0


@frozen
class HostDrivers:
    """The drivers; machines outlive them."""

    hypervisor: Hypervisor
    networks: NetworkDriver
    guest_services: GuestServicesDriver
    primary: PrimaryStorage  # the host's own directory
    pools: PrimaryPools[PrimaryStorage]
    uefi_variables: UefiVariables
    #: Multiplies timeouts that wait for a guest of this host.
    timeout_scale: TimeoutScale

    async def stop(self) -> None:
        await self.hypervisor.close()

    def has_process(self, name: str) -> bool:
        """Whether the machine runs, by what its hypervisor knows now."""
        status = self.hypervisor.status(name)
        return status is not None and status.state.alive

    async def set_clock(self, name: str, unix_s: float) -> None:
        """Set a guest's clock without the control channel, which a wrong clock can break."""
        await self.hypervisor.guest_agent(name).set_time(unix_s)


def make_host_drivers(
    foundation: Foundation,
    hypervisor: Hypervisor | None = None,
    networks: NetworkDriver | None = None,
) -> HostDrivers:
    """Make the drivers that the configuration names, except those that are given."""
    configuration = foundation.configuration
    layout, management = configuration.layout, configuration.management
    launcher = SocketLauncher(layout.launcher_socket)
    accelerator = Accelerator.from_config(management.hypervisor.accelerator, launcher.opens_kvm)
    _log.info("accelerator: {accelerator}", accelerator=accelerator.value)
    if not management.hypervisor.vnc_tls:
        _log.warn("hypervisor.vnc_tls is false: screens of new virtual machines are not encrypted")
    vnc_ports = (management.hypervisor.vnc_first_port, management.hypervisor.vnc_last_port)
    networks = networks or NetworkDriver(
        layout.network_socket, vnc_ports=vnc_ports, control_port=management.control.port
    )
    hypervisor = hypervisor or QemuHypervisor(
        layout.machines,
        networks,
        accelerator,
        launcher=launcher,
        vnc_ports=vnc_ports,
        screens=foundation.screens,
        vnc_tls=management.hypervisor.vnc_tls,
    )
    primary = PrimaryStorage(layout.primary)
    return HostDrivers(
        hypervisor=hypervisor,
        networks=networks,
        guest_services=GuestServicesDriver(layout.guest_services_socket),
        primary=primary,
        pools=PrimaryPools(
            foundation.database,
            primary,
            HostPoolDirectories(layout.primary, layout.mounts, PoolMounts(layout.mount_socket)),
            _open_pool,
            host_id=foundation.host.id,
        ),
        uefi_variables=UefiVariables(layout.uefi_variables),
        timeout_scale=GuestTimeoutScale(accelerator),
    )


def _open_pool(directory: Path) -> PrimaryStorage:
    storage = PrimaryStorage(directory)
    storage.open(_LEFTOVERS_AGE_S)
    return storage
