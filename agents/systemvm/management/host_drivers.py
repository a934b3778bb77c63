# SPDX-License-Identifier: Apache-2.0
"""The drivers of this host: hypervisor, networks and primary storage."""

from __future__ import annotations

from attrs import frozen
from twisted.logger import Logger

from systemvm.host.accelerator import Accelerator, GuestTimeoutScale
from systemvm.management.config import Configuration
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.launchers import SocketLauncher
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.network_helper import NetworkDriver
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.service.slowness import TimeoutScale

_log = Logger()


@frozen
class HostDrivers:
    """The drivers; machines outlive them."""

    hypervisor: Hypervisor
    networks: NetworkDriver
    primary: PrimaryStorage
    #: Multiplies timeouts that wait for a guest of this host.
    timeout_scale: TimeoutScale

    async def start(self) -> None:
        """Make bridges and the firewall, and open primary storage."""
        await self.networks.ensure()
        self.primary.open()

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
    configuration: Configuration,
    screens: ScreenAuthority,
    hypervisor: Hypervisor | None = None,
    networks: NetworkDriver | None = None,
) -> HostDrivers:
    """Make the drivers that the configuration names, except those that are given."""
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
        screens=screens,
        vnc_tls=management.hypervisor.vnc_tls,
    )
    return HostDrivers(
        hypervisor=hypervisor,
        networks=networks,
        primary=PrimaryStorage(layout.primary),
        timeout_scale=GuestTimeoutScale(accelerator),
    )
