# SPDX-License-Identifier: Apache-2.0
"""Fixture: a reconciler of system VMs with fakes of the host, on a database and a test clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define
from twisted.internet.task import Clock

from prepared_database import open_first_start
from system_vm_fakes import FakeAdmission, FakeHypervisor, FakeImages, FakePrimary
from systemvm.host.layout import Layout
from systemvm.host.zone import ZoneConfig
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.inventory import write_inventory
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.system_vms.boot_arguments import BootFacts
from systemvm.management.system_vms.lifecycle import SystemVmLifecycle
from systemvm.management.system_vms.machine import SystemVmBuilder
from systemvm.management.system_vms.patching import AgentPatching
from systemvm.management.system_vms.reconciler import SystemVmReconciler
from systemvm.management.system_vms.secure_shell import SshAccess
from systemvm.management.zone_model.catalog import ZoneCatalog


@define
class Host:
    clock: Clock
    database: Database
    hypervisor: object
    primary: object
    images: object
    admission: object
    directory: AgentDirectory
    authority: ControlAuthority
    lifecycle: SystemVmLifecycle
    reconciler: SystemVmReconciler
    configuration: Configuration
    host_id: int

    async def vm(self, name: str) -> Instance:
        return await self.database.read(instances.by_instance_name, name)

    def restarted(self) -> Host:
        """Return the host after a restart of the daemon, which keeps rows and machines."""
        return build(self.configuration, self.database, self.hypervisor, self.primary, self.images)


def build(configuration: Configuration, database: Database, hypervisor, primary, images) -> Host:  # type: ignore[no-untyped-def]
    clock = Clock()
    host = database.run_now(write_inventory, configuration)
    database.run_now(ZoneCatalog(configuration).load)
    authority = ControlAuthority.open(configuration.layout.pki)
    directory = AgentDirectory(lambda name: hypervisor.status(name) is not None)
    admission = FakeAdmission()

    def facts(vm: Instance) -> BootFacts:
        return BootFacts(
            configuration.zone("zone1"),
            vm.zone_id,
            configuration.management.control,
            "ssh-ed25519 AAAA systemvm",
        )

    patching = AgentPatching(
        clock,
        directory,
        SshAccess(database, directory, hypervisor, configuration.layout.pki / "ssh_key"),
        configuration.layout.agent_code,
    )
    patching.subscribe()
    lifecycle = SystemVmLifecycle(
        database,
        hypervisor,
        SystemVmBuilder(
            images,
            primary,
            authority,
            configuration.layout.logs,
            lambda zone_id: "10.11.0.1",
            clock=lambda: 1.8e9,
        ),
        directory,
        admission,
        facts,
        patching,
        Seal.open_key(configuration.layout.pki),
        host_id=host.id,
    )
    reconciler = SystemVmReconciler(
        clock, database, configuration, lifecycle, hypervisor, directory, host_id=host.id
    )
    reconciler.subscribe()
    return Host(
        clock,
        database,
        hypervisor,
        primary,
        images,
        admission,
        directory,
        authority,
        lifecycle,
        reconciler,
        configuration,
        host.id,
    )


@pytest.fixture
def host(tmp_path: Path, zone: ZoneConfig) -> Iterator[Host]:
    layout = Layout(tmp_path)
    layout.make()
    database = open_first_start(layout.database, layout.pki)
    configuration = Configuration(layout, ManagementConfig(host_name="host1"), [zone])
    primary = FakePrimary(layout.primary)
    yield build(configuration, database, FakeHypervisor(), primary, FakeImages())
    database.close()
