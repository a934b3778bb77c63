# SPDX-License-Identifier: Apache-2.0
"""The services for consoles: their addresses, sessions and recordings, and what CPVMs are told about them."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from systemvm.management.consoles.draining import ConsoleDraining
from systemvm.management.consoles.endpoint import ConsoleEndpoints
from systemvm.management.consoles.live_sessions import ConsoleSessionQueries
from systemvm.management.consoles.power import ConsolePowerSwitch
from systemvm.management.consoles.proxy_settings import HOST_ADDRESSES, SESSION_LIMITS, ProxySettingSender
from systemvm.management.consoles.retargeting import ConsoleRetargeting
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.consoles.session_reconciler import ConsoleSessionReconciler
from systemvm.management.consoles.supervision import ConsoleSupervision
from systemvm.management.control.agent_reconciler import AgentReconciler
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foundation import Foundation
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.recordings.files import RecordingFiles
from systemvm.management.recordings.intake import RecordingIntake
from systemvm.management.recordings.service import Recordings
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream.transport import Reactor
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import Role


@frozen
class ConsoleServices:
    """What commands and agents ask about consoles."""

    revocation: ConsoleRevocation
    retargeting: ConsoleRetargeting
    endpoints: ConsoleEndpoints
    sessions: ConsoleSessionQueries
    supervision: ConsoleSupervision
    draining: ConsoleDraining
    limits: ProxySettingSender
    addresses: ProxySettingSender
    recordings: Recordings
    reconciler: ConsoleSessionReconciler
    intake: RecordingIntake
    power: ConsolePowerSwitch

    def add_methods(self, methods: MethodTable) -> None:
        """Add what CPVMs call."""
        self.intake.add_methods(methods)
        self.power.add_methods(methods)

    def reconcile_agents(self, reconciler: AgentReconciler) -> None:
        """Bring a CPVM up to date whenever it connects, and now and then."""
        reconciler.add(Role.CPVM, self.reconciler.reconcile)
        reconciler.add(Role.CPVM, self.draining.reconcile)
        reconciler.add(Role.CPVM, self.retargeting.reconcile)
        reconciler.add(Role.CPVM, lambda agent: self.limits.send(agent.name))
        reconciler.add(Role.CPVM, lambda agent: self.addresses.send(agent.name))


def make_console_services(
    reactor: Reactor,
    foundation: Foundation,
    directory: AgentDirectory,
    settings: ZoneSettings,
    jobs: JobRunner,
) -> ConsoleServices:
    """Make all parts; nothing runs before `Recordings.start`."""
    database, address = foundation.database, _console_address(foundation, settings)
    files = RecordingFiles(database, directory)
    return ConsoleServices(
        revocation=ConsoleRevocation(database, directory),
        retargeting=ConsoleRetargeting(database, directory),
        endpoints=ConsoleEndpoints(database, directory, address),
        sessions=ConsoleSessionQueries(database, directory),
        supervision=ConsoleSupervision(database, directory, address),
        draining=ConsoleDraining(database, directory, reactor),
        limits=ProxySettingSender(database, directory, SESSION_LIMITS),
        addresses=ProxySettingSender(database, directory, HOST_ADDRESSES),
        recordings=Recordings(reactor, database, files, foundation.seal),
        reconciler=ConsoleSessionReconciler(database, directory),
        intake=RecordingIntake(database, files),
        power=ConsolePowerSwitch(database, jobs),
    )


def _console_address(foundation: Foundation, settings: ZoneSettings) -> Callable[[int, str], PublicEndpoint]:
    """Return how browsers reach a CPVM, by its zone's id and its public address."""

    def endpoint_of(zone_id: int, public_address: str) -> PublicEndpoint:
        return settings.console_endpoint(foundation.zone_names[zone_id], public_address)

    return endpoint_of
