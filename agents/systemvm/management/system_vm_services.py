# SPDX-License-Identifier: Apache-2.0
"""The services for system VMs as a group: lifecycle, reconciliation, diagnosis and housekeeping."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from attrs import frozen

from systemvm.management.control_plane import ControlPlane
from systemvm.management.foundation import Foundation
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.housekeeping import Housekeeping
from systemvm.management.hypervisors.base import DomainStatus
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.inventory import ZoneSettings
from systemvm.management.own_networks import own_networks
from systemvm.management.primary.system_images import SystemImages
from systemvm.management.public_certificates.files import certificate_files
from systemvm.management.state.instances import Instance
from systemvm.management.system_vms.boot_arguments import BootFacts
from systemvm.management.system_vms.diagnosis import Diagnosis
from systemvm.management.system_vms.diagnostics import Diagnostics
from systemvm.management.system_vms.lifecycle import SystemVmLifecycle
from systemvm.management.system_vms.machine import SystemImageSource, SystemVmBuilder
from systemvm.management.system_vms.operations import SystemVmOperations
from systemvm.management.system_vms.patching import AgentPatching
from systemvm.management.system_vms.preparation import AgentPreparation
from systemvm.management.system_vms.reconciler import SystemVmReconciler
from systemvm.management.system_vms.secure_shell import SshAccess
from systemvm.management.templates.copies import TemplateCopies
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream.transport import Reactor


@frozen
class SystemVmServices:
    """Keeps a zone's system VMs running, and answers operators about them."""

    lifecycle: SystemVmLifecycle
    reconciler: SystemVmReconciler
    preparation: AgentPreparation
    patching: AgentPatching
    diagnosis: Diagnosis
    diagnostics: Diagnostics
    housekeeping: Housekeeping
    operations: SystemVmOperations

    def subscribe(self) -> None:
        """Subscribe to events of agents and machines."""
        self.preparation.subscribe()
        self.patching.subscribe()
        self.reconciler.subscribe()

    def add_methods(self, operator_methods: MethodTable) -> None:
        self.operations.add_methods(operator_methods)

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """Bring the rows up to date with the machines that run already."""
        await self.reconciler.adopt(machines)

    def start(self) -> None:
        self.diagnosis.start()
        self.housekeeping.start()
        self.reconciler.start()

    async def stop(self) -> None:
        await self.reconciler.stop()
        self.diagnosis.stop()
        self.housekeeping.stop()


def make_system_vm_services(
    reactor: Reactor, foundation: Foundation, drivers: HostDrivers, control: ControlPlane
) -> SystemVmServices:
    """Make all parts; `subscribe` connects them."""
    configuration, database, directory = foundation.configuration, foundation.database, control.directory
    layout, management, host_id = configuration.layout, configuration.management, foundation.host.id
    ssh = SshAccess(database, directory, drivers.hypervisor, foundation.ssh_key.path)
    diagnosis = Diagnosis(
        reactor,
        database,
        directory,
        drivers.hypervisor,
        layout.logs,
        host_id=host_id,
        address=str(management.control.address),
        port=management.control.port,
        timeout_scale=drivers.timeout_scale,
    )
    diagnostics = Diagnostics(database, ssh, layout.diagnostics, timeout_scale=drivers.timeout_scale)
    preparation = AgentPreparation(
        database, configuration, directory, foundation.sites, StoreKeys(foundation.seal)
    )
    patching = AgentPatching(reactor, directory, ssh, layout.agent_code, timeout_scale=drivers.timeout_scale)
    lifecycle = _make_lifecycle(foundation, drivers, control, patching)
    return SystemVmServices(
        lifecycle=lifecycle,
        reconciler=SystemVmReconciler(
            reactor,
            database,
            configuration,
            lifecycle,
            drivers.hypervisor,
            directory,
            host_id=host_id,
            timeout_scale=drivers.timeout_scale,
            last_serial_error=diagnosis.last_serial_error,
        ),
        preparation=preparation,
        patching=patching,
        diagnosis=diagnosis,
        diagnostics=diagnostics,
        housekeeping=Housekeeping(
            reactor,
            database,
            directory,
            preparation,
            TemplateCopies(database, drivers.pools, host_id=host_id),
            job_expiry=timedelta(minutes=management.job_expiry_minutes),
            page_certificate=foundation.page_certificate,
            diagnostics=diagnostics,
            renew_screens=drivers.hypervisor.renew_screens,
            sites=foundation.sites,
            files=certificate_files(configuration.zones, management.page),
        ),
        operations=SystemVmOperations(database, directory, ssh, diagnosis, preparation, layout.logs, reactor),
    )


def _make_lifecycle(
    foundation: Foundation, drivers: HostDrivers, control: ControlPlane, patching: AgentPatching
) -> SystemVmLifecycle:
    configuration = foundation.configuration
    layout, management = configuration.layout, configuration.management

    def boot_facts(vm: Instance) -> BootFacts:
        return BootFacts(
            zone=configuration.zone(foundation.zone_names[vm.zone_id]),
            zone_id=vm.zone_id,
            control=management.control,
            authorized_key=foundation.ssh_key.public_line,
            own_networks=own_networks(configuration),
            management_networks=configuration.management_networks.get(foundation.zone_names[vm.zone_id], ()),
        )

    def vnc_address(zone_id: int) -> str:
        return ZoneSettings(configuration, foundation.sites).vnc_address(foundation.zone_names[zone_id])

    images = SystemImageSource(SystemImages(layout.images), management.image_source)
    return SystemVmLifecycle(
        foundation.database,
        drivers.hypervisor,
        SystemVmBuilder(images, drivers.primary, foundation.authority, layout.logs, vnc_address),
        control.directory,
        drivers.networks,
        boot_facts,
        patching,
        foundation.seal,
        host_id=foundation.host.id,
        timeout_scale=drivers.timeout_scale,
    )
