# SPDX-License-Identifier: Apache-2.0
"""The daemon as a whole: what it is made of, in which order it starts, and that machines outlive it."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import shutil
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TextIO, cast

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from systemvm.host.accelerator import Accelerator, GuestTimeoutScale
from systemvm.host.config_file import ConfigError
from systemvm.management.config import Configuration
from systemvm.management.control.agent_state_recorder import AgentStateRecorder
from systemvm.management.control.bridge_port import BridgePortSource
from systemvm.management.control.ca_rotation import CaRotation
from systemvm.management.control.certificate_service import CertificateService
from systemvm.management.control.certificates import Certificates
from systemvm.management.control.channel import ControlChannel
from systemvm.management.control.clock import ClockMonitor
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control.refusal_recorder import RefusalRecorder
from systemvm.management.control.supervision import AgentSupervisor
from systemvm.management.first_start import announce, make_first_accounts
from systemvm.management.housekeeping import Housekeeping
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.guest_agent import GuestAgents
from systemvm.management.hypervisors.launchers import SocketLauncher
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.inventory import write_inventory
from systemvm.management.network_helper import NetworkDriver
from systemvm.management.own_networks import own_networks
from systemvm.management.page.listener import PageCertificate, listen
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity
from systemvm.management.pki.operations import CaOperations
from systemvm.management.pki.public import PublicAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.pki.ssh_key import SshKey
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.primary.system_images import SystemImages
from systemvm.management.services import ServiceContext, UserServices
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.system_vms.boot_arguments import BootFacts
from systemvm.management.system_vms.diagnosis import Diagnosis, Machines
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
from systemvm.rpc.http.unix import listen_unix
from systemvm.rpc.stream.peer_credentials import root_and_group
from systemvm.rpc.stream.transport import Reactor
from systemvm.service.systemd_notifier import SystemdNotifier


class Daemon:
    """Builds every part in its constructor, so that a wrong file stops it before anything runs."""

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        notifier: SystemdNotifier,
        *,
        hypervisor: Hypervisor | None = None,
        networks: NetworkDriver | None = None,
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._notifier = notifier
        layout, management = configuration.layout, configuration.management
        layout.make()
        self._lock = _lock(layout.lock)
        self.database = Database.open(layout.database)
        seal = Seal.open_key(layout.pki)
        authority = ControlAuthority.open(layout.pki)
        self._identity = DaemonIdentity(authority, management.host_name)
        public = PublicAuthority.open(layout.pki, configuration.zones, management.page.endpoint)
        self._page_certificate = (
            PageCertificate(management.page, public) if management.page.ends_tls else None
        )
        self._ssh_key = SshKey.open(layout.pki)
        self._first_login = make_first_accounts(self.database, seal, layout.first_login)
        self.host = self.database.run_now(write_inventory, configuration)
        self._zone_names = {zone.id: zone.name for zone in self.database.run_now(zones.list_zones)}

        launcher = SocketLauncher(layout.launcher_socket)
        accelerator = Accelerator.from_config(management.hypervisor.accelerator, launcher.opens_kvm)
        timeout_scale = GuestTimeoutScale(accelerator)
        self._log.info("accelerator: {accelerator}", accelerator=accelerator.value)
        vnc_ports = (management.hypervisor.vnc_first_port, management.hypervisor.vnc_last_port)
        self.networks = networks or NetworkDriver(
            layout.network_socket, vnc_ports=vnc_ports, control_port=management.control.port
        )
        self.hypervisor = hypervisor or QemuHypervisor(
            layout.machines,
            self.networks,
            accelerator,
            launcher=launcher,
            vnc_ports=vnc_ports,
        )
        self.primary = PrimaryStorage(layout.primary)

        self.directory = AgentDirectory(self._has_process, timeout_scale)
        AgentStateRecorder(self.database, self.directory)
        self._certificates = Certificates(self.database, self.directory, authority, reactor)
        clocks = ClockMonitor(self.directory, self._set_clock, seconds=reactor.seconds)
        agent_methods = MethodTable("systemvm management daemon, for agents", version("systemvm"))
        self._channel = ControlChannel(
            reactor,
            self.directory,
            authority,
            agent_methods,
            host_uuid=self.host.uuid,
            ping_interval_s=management.control.ping_interval_s,
            clocks=clocks,
            on_refused=RefusalRecorder(self.database, self.directory, reactor.seconds, clocks.doubted),
            source_of=BridgePortSource({zone.networks.control.bridge for zone in configuration.zones}),
        )
        self._rotation = CaRotation(
            reactor, self.directory, authority, self._has_process, self._channel.recheck
        )
        self._supervision = AgentSupervisor(
            reactor,
            self.directory,
            interval_s=management.control.ping_interval_s,
            missed_pings=management.control.missed_pings,
        )
        logins = SshAccess(
            self.database,
            self.directory,
            cast(GuestAgents, self.hypervisor),
            self._ssh_key.path,
        )
        self._diagnosis = Diagnosis(
            reactor,
            self.database,
            self.directory,
            cast(Machines, self.hypervisor),
            layout.logs,
            host_id=self.host.id,
            address=str(management.control.address),
            port=management.control.port,
            timeout_scale=timeout_scale,
        )
        diagnostics = Diagnostics(self.database, logins, layout.diagnostics, timeout_scale=timeout_scale)
        preparations = AgentPreparation(self.database, configuration, self.directory, public)
        self._housekeeping = Housekeeping(
            reactor,
            self.database,
            self.directory,
            preparations,
            TemplateCopies(self.database, self.primary, host_id=self.host.id),
            job_expiry=timedelta(minutes=management.job_expiry_minutes),
            page_certificate=self._page_certificate,
            diagnostics=diagnostics,
        )
        images = SystemImageSource(SystemImages(layout.images), management.image_source)
        self.system_vms = SystemVmLifecycle(
            self.database,
            self.hypervisor,
            SystemVmBuilder(images, self.primary, authority, layout.logs),
            self.directory,
            self.networks,
            self._boot_facts,
            AgentPatching(
                reactor,
                self.directory,
                logins,
                layout.agent_code,
                timeout_scale=timeout_scale,
            ),
            host_id=self.host.id,
            timeout_scale=timeout_scale,
        )
        self.reconciler = SystemVmReconciler(
            reactor,
            self.database,
            configuration,
            self.system_vms,
            self.hypervisor,
            self.directory,
            host_id=self.host.id,
            timeout_scale=timeout_scale,
            last_serial_error=self._diagnosis.last_serial_error,
        )
        self._operator_methods = MethodTable("systemvm management daemon, for operators", version("systemvm"))
        SystemVmOperations(
            self.database, self.directory, logins, self._diagnosis, preparations, layout.logs, reactor
        ).add_methods(self._operator_methods)
        certificates = CertificateService(
            reactor, self.directory, authority, self._certificates, self._rotation
        )
        certificates.add_methods(self._operator_methods)
        CaOperations(public).add_methods(self._operator_methods)
        context = ServiceContext(
            reactor=reactor,
            configuration=configuration,
            database=self.database,
            seal=seal,
            directory=self.directory,
            hypervisor=self.hypervisor,
            primary=self.primary,
            system_vms=self.system_vms,
            zone_names=self._zone_names,
            public_root_pem=public.ca_pem,
            diagnostics=diagnostics,
            host_id=self.host.id,
            timeout_scale=timeout_scale,
            certificates=certificates,
        )
        self.services = UserServices(context, agent_methods, self._operator_methods)
        self._ports: list[IListeningPort] = []

    async def start(self) -> None:
        """Bring everything up; what runs already is adopted before anything may change it."""
        self._notifier.status("making networks")
        await self.networks.ensure()
        self.primary.open()
        self._notifier.status("adopting machines")
        machines = await self.hypervisor.adopt()
        await self.reconciler.adopt(machines)
        await self.services.adopt(machines)
        control = self._configuration.management.control
        for host, port in control.listeners:
            await self._channel.listen(self._identity, host, port)
        await self.services.start()
        self._listen_for_operators()
        self._certificates.start(self._channel.recheck)
        self._rotation.start()
        page = self._configuration.management.page
        self._ports.append(await listen(self._reactor, page, self.services.site, self._page_certificate))
        self._supervision.start()
        self._diagnosis.start()
        self._housekeeping.start()
        self.reconciler.start()
        self._log.info("ready; the page is at {origin}", origin=page.origin)
        if self._first_login is not None:
            announce(self._first_login, page.origin, self._configuration.layout.first_login, os.environ)
            self._first_login = None
        self._notifier.status(f"serving {page.origin}")
        self._notifier.ready()

    async def stop(self) -> None:
        """Let go of everything in the reverse order; machines and agents live on."""
        self._notifier.stopping()
        await self.reconciler.stop()
        self._certificates.stop()
        self._rotation.stop()
        self._supervision.stop()
        self._diagnosis.stop()
        self._housekeeping.stop()
        self.services.stop()
        for port in reversed(self._ports):
            await maybeDeferred(port.stopListening)
        await self._channel.close()
        await self.hypervisor.close()
        await self.database.drain()  # what was cut off above still has a word to write
        self.database.close()
        self._log.info("stopped; machines go on running")

    def _boot_facts(self, vm: Instance) -> BootFacts:
        zone = self._configuration.zone(self._zone_names[vm.zone_id])
        return BootFacts(
            zone=zone,
            zone_id=vm.zone_id,
            control=self._configuration.management.control,
            authorized_key=self._ssh_key.public_line,
            own_networks=own_networks(self._configuration),
        )

    async def _set_clock(self, name: str, unix_s: float) -> None:
        """Past the control channel: that may be what a wrong clock keeps from working."""
        await cast(GuestAgents, self.hypervisor).guest_agent(name).set_time(unix_s)

    def _has_process(self, name: str) -> bool:
        status = self.hypervisor.status(name)
        return status is not None and status.state.alive

    def _listen_for_operators(self) -> None:
        path = self._configuration.layout.socket
        group = self._configuration.management.operators_group
        port = listen_unix(
            self._reactor,
            path,
            self._operator_methods,
            authorize=root_and_group(group),
            events=self.services.job_events,
        )
        self._ports.append(port)
        _give_to_group(path, group)


def _lock(path: Path) -> TextIO:
    """Held for the life of the process: two daemons of one state would fight over its machines."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(f"{path}: another management daemon runs with this root") from None
    return file


def _give_to_group(path: Path, group: str) -> None:
    """The socket is for root and a group, which a host need not have."""
    with contextlib.suppress(KeyError, PermissionError):
        grp.getgrnam(group)
        shutil.chown(path, group=group)
