# SPDX-License-Identifier: Apache-2.0
"""The daemon as a whole: its groups of parts, and the order in which they start and stop."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
from pathlib import Path

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from systemvm.management.config import Configuration
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control_plane import make_control_plane
from systemvm.management.first_start import announce
from systemvm.management.foundation import open_foundation
from systemvm.management.host_bridges import HostBridges
from systemvm.management.host_drivers import make_host_drivers
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.network_helper import NetworkDriver
from systemvm.management.page.listener import listen
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.pki.operations import CaOperations
from systemvm.management.state.database import Database
from systemvm.management.state.zones import Host
from systemvm.management.system_vm_services import make_system_vm_services
from systemvm.management.user_services import make_user_services
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.http.unix import listen_unix
from systemvm.rpc.stream.peer_credentials import root_and_group
from systemvm.rpc.stream.transport import Reactor
from systemvm.service.release import RELEASE
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
        self._foundation = open_foundation(configuration)
        self._drivers = make_host_drivers(self._foundation, hypervisor, networks)
        self._bridges = HostBridges(reactor, self._drivers.networks, configuration.labels)
        self._control = make_control_plane(reactor, self._foundation, self._drivers)
        self._system_vms = make_system_vm_services(reactor, self._foundation, self._drivers, self._control)
        self._user_services = make_user_services(
            reactor, self._foundation, self._drivers, self._control, self._system_vms
        )
        self._operator_methods = MethodTable("systemvm management daemon, for operators", RELEASE)
        self._add_methods()
        self._subscribe()
        self._ports: list[IListeningPort] = []

    @property
    def database(self) -> Database:
        return self._foundation.database

    @property
    def host(self) -> Host:
        return self._foundation.host

    @property
    def authority(self) -> ControlAuthority:
        return self._foundation.authority

    @property
    def directory(self) -> AgentDirectory:
        return self._control.directory

    async def start(self) -> None:
        """Start everything; machines that run already are adopted before any part can change them."""
        self._notifier.status("making networks")
        await self._bridges.start()
        self._drivers.primary.open()
        self._drivers.uefi_variables.open()
        self._notifier.status("adopting machines")
        machines = await self._drivers.hypervisor.adopt()
        await self._system_vms.adopt(machines)
        await self._user_services.adopt(machines)
        await self._control.listen()
        await self._user_services.start()
        self._listen_for_operators()
        self._control.start()
        self._user_services.metrics.start()
        page = self._configuration.management.page
        self._ports.append(
            await listen(self._reactor, page, self._user_services.site, self._foundation.page_certificate)
        )
        self._system_vms.start()
        self._log.info("ready; the page is at {origin}", origin=page.origin)
        if self._foundation.first_login is not None:
            path = self._configuration.layout.first_login
            announce(self._foundation.first_login, page.origin, path, os.environ)
        self._notifier.status(f"serving {page.origin}")
        self._notifier.ready()

    async def stop(self) -> None:
        """Stop in the reverse order; machines and agents continue."""
        self._notifier.stopping()
        await self._system_vms.stop()
        self._control.stop()
        self._user_services.stop()
        await self._user_services.metrics.stop()
        for port in reversed(self._ports):
            await maybeDeferred(port.stopListening)
        await self._control.close()
        self._bridges.stop()
        await self._drivers.stop()
        await self._foundation.close()
        self._log.info("stopped; machines continue to run")

    def _add_methods(self) -> None:
        self._system_vms.add_methods(self._operator_methods)
        self._control.certificate_service.add_methods(self._operator_methods)
        CaOperations(self._foundation.public).add_methods(self._operator_methods)
        self._user_services.add_methods(self._control.methods, self._operator_methods)

    def _subscribe(self) -> None:
        """Connect events with their receivers, which are called in this order."""
        self._control.subscribe()
        self._system_vms.subscribe()
        self._user_services.subscribe()

    def _listen_for_operators(self) -> None:
        path = self._configuration.layout.socket
        group = self._configuration.management.operators_group
        port = listen_unix(
            self._reactor,
            path,
            self._operator_methods,
            authorize=root_and_group(group),
            events=self._user_services.job_events,
        )
        self._ports.append(port)
        _give_to_group(path, group)


def _give_to_group(path: Path, group: str) -> None:
    """Give the socket to a group, if the host has it."""
    with contextlib.suppress(KeyError, PermissionError):
        grp.getgrnam(group)
        shutil.chown(path, group=group)
