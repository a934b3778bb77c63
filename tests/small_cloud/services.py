# SPDX-License-Identifier: Apache-2.0
"""The services of SmallCloud. The daemon's own functions make them, and connect them as in the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs
from attrs import frozen
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from small_cloud.agents import FakeAgents
from small_cloud.control import ControlParts, make_control
from small_cloud.foreign_hosts import foreign_hosts
from small_cloud.rows import HASHER
from small_cloud.system_vms import FakeDiagnostics, FakeSystemVms
from small_cloud.text_recognizer import FakeRecognizer
from systemvm.management.account_services import AccountServices, make_account_services
from systemvm.management.alerts.delivery import AlertDelivery
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.system_vms import SystemVmControl
from systemvm.management.api.factory import command_table
from systemvm.management.command_services import gather_command_services
from systemvm.management.console_services import ConsoleServices, make_console_services
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foreign_hosts.access import ApiExchange
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.foundation import Foundation
from systemvm.management.host_drivers import HostDrivers
from systemvm.management.image_services import ImageServices, make_image_services
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.machine_services import MachineServices, make_machine_services
from systemvm.management.public_name_services import PublicNameServices, make_public_name_services
from systemvm.management.volume_services import VolumeServices, make_volume_services
from systemvm.rpc.core.method import MethodTable


@frozen
class Peers:
    """The fakes that are no drivers of the host."""

    agents: FakeAgents
    recognizer: FakeRecognizer
    system_vms: FakeSystemVms
    diagnostics: FakeDiagnostics
    hosts: Mapping[str, ApiExchange]  # the APIs of other hosts, by name or address
    host_names: Mapping[str, str]


@frozen
class Services:
    """The groups of the daemon's services (`management/user_services.py`), and what is made of them."""

    jobs: JobRunner
    images: ImageServices
    consoles: ConsoleServices
    machines: MachineServices
    disks: VolumeServices
    accounts: AccountServices
    public_names: PublicNameServices
    hosts: ForeignHosts
    control: ControlParts
    commands: CommandTable
    agent_methods: MethodTable  # that agents call


def make_services(
    clock: Clock, foundation: Foundation, drivers: HostDrivers, settings: ZoneSettings, peers: Peers
) -> Services:
    """Make the groups in the daemon's order; no thread of a pool does their work."""
    database, seal = foundation.database, foundation.seal
    agents = cast(AgentDirectory, peers.agents)
    jobs = JobRunner(database, clock)
    images = make_image_services(clock, foundation, agents, settings)
    consoles = make_console_services(clock, foundation, agents, settings, jobs)
    machines = make_machine_services(
        clock, foundation, drivers, settings, images, consoles,
        recognizer=peers.recognizer, in_thread=maybeDeferred,
    )  # fmt: skip
    machines.virtual_machines.subscribe()
    disks = make_volume_services(
        clock, foundation, drivers, agents, settings, jobs, images,
        machines.templates, machines.virtual_machines, in_thread=maybeDeferred,
    )  # fmt: skip
    accounts = make_account_services(clock, foundation, consoles, machines, disks, hasher=HASHER)
    alert_delivery = AlertDelivery(clock, database, seal, foundation.host.name)
    public_names = make_public_name_services(
        clock, foundation, agents, settings, [images.extraction.send_certificates], roots=list
    )
    hosts = foreign_hosts(
        clock, database, seal, peers.hosts, peers.host_names, consoles.revocation, consoles.addresses
    )
    control = make_control(clock, foundation)

    async def configured() -> None:
        await foundation.database.run(foundation.zones.load)
        await consoles.limits.send_all()
        await public_names.certificates.changed()
        await alert_delivery.changed()

    commands = gather_command_services(
        foundation,
        settings,
        jobs=jobs,
        images=images,
        consoles=consoles,
        machines=machines,
        disks=disks,
        accounts=accounts,
        public_names=public_names,
        hosts=hosts,
        alert_delivery=alert_delivery,
        system_vms=cast(SystemVmControl, peers.system_vms),
        diagnostics=peers.diagnostics,
        certificates=control.certificate_service,
        on_zones_changed=lambda: None,
        on_configured=configured,
    )
    methods = MethodTable("agents", "1")
    images.dispatcher.add_methods(methods)
    consoles.add_methods(methods)
    serial_ports = MachineSerialPorts(foundation.screens, foundation.configuration.layout.logs)
    ConsoleAuthorizer(database, seal, consoles.revocation, serial_ports, hosts).add_methods(methods)
    return Services(
        jobs=jobs,
        images=images,
        consoles=consoles,
        machines=machines,
        disks=disks,
        accounts=accounts,
        public_names=public_names,
        hosts=hosts,
        control=control,
        commands=command_table(attrs.evolve(commands, seconds=clock.seconds)),
        agent_methods=methods,
    )
