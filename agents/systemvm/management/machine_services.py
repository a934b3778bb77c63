# SPDX-License-Identifier: Apache-2.0
"""The services for users' VMs: the machines, their guest networks and screens, and the templates they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.threads import deferToThread

from systemvm.management.console_services import ConsoleServices
from systemvm.management.foundation import Foundation
from systemvm.management.guest_networks.service import GuestNetworks
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.image_services import ImageServices
from systemvm.management.inventory import ZoneSettings
from systemvm.management.screens.recognition import Recognizer, Tesseract
from systemvm.management.screens.service import MachineScreens
from systemvm.management.screens.thumbnails import Thumbnails
from systemvm.management.templates.service import TemplateService
from systemvm.management.virtual_machines.halts import HaltedMachines
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.reaper import ExpungeReaper
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.rpc.stream.transport import Reactor


@frozen
class MachineServices:
    """What commands ask about VMs."""

    virtual_machines: VirtualMachines
    guest_networks: GuestNetworks
    templates: TemplateService
    reaper: ExpungeReaper
    halts: HaltedMachines
    screens: MachineScreens
    thumbnails: Thumbnails


def make_machine_services(
    reactor: Reactor,
    foundation: Foundation,
    drivers: HostDrivers,
    settings: ZoneSettings,
    images: ImageServices,
    consoles: ConsoleServices,
    *,
    recognizer: Recognizer | None = None,
    in_thread: Callable[..., Any] = deferToThread,
) -> MachineServices:
    """Make all parts; nothing runs before their `start`."""
    database, host_id, expunge = (
        foundation.database,
        foundation.host.id,
        foundation.configuration.management.expunge,
    )
    guest_networks = GuestNetworks(
        reactor,
        database,
        drivers.guest_services,
        drivers.networks,
        foundation.configuration.labels,
        foundation.seal,
        host_id=host_id,
    )
    virtual_machines = VirtualMachines(
        database,
        drivers.hypervisor,
        UserVmBuilder(
            database,
            drivers.pools,
            foundation.configuration.layout.logs,
            settings.vnc_address,
            foundation.seal,
            host_id=host_id,
            staging=images.staging,
            variables=drivers.uefi_variables,
        ),
        foundation.seal,
        host_id=host_id,
        timeout_scale=drivers.timeout_scale,
        expunge=expunge,
        end_consoles=consoles.revocation.of_machine,
        move_consoles=consoles.retargeting.of_machine,
        networks=guest_networks,
    )
    screens = MachineScreens(reactor, database, drivers.hypervisor, recognizer or Tesseract())
    return MachineServices(
        virtual_machines=virtual_machines,
        guest_networks=guest_networks,
        templates=TemplateService(
            database, images.dispatcher, virtual_machines, images.usage, settings, images.sources
        ),
        reaper=ExpungeReaper(
            reactor, database, virtual_machines, host_id=host_id, interval_s=expunge.interval
        ),
        halts=HaltedMachines(reactor, database, drivers.hypervisor, host_id=host_id),
        screens=screens,
        thumbnails=Thumbnails(reactor, screens, in_thread),
    )
