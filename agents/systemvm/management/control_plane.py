# SPDX-License-Identifier: Apache-2.0
"""The control channel of system VMs as a group: directory, listener, certificates and supervision."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.control.agent_state_recorder import AgentStateRecorder
from systemvm.management.control.bridge_port import BridgePortSource
from systemvm.management.control.ca_rotation import CaRotation
from systemvm.management.control.certificate_service import CertificateService
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.channel import ControlChannel
from systemvm.management.control.clock import ClockMonitor
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control.refusal_recorder import RefusalRecorder
from systemvm.management.control.supervision import AgentSupervisor
from systemvm.management.foundation import Foundation
from systemvm.management.host_drivers import HostDrivers
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream.transport import Reactor
from systemvm.service.release import RELEASE


@frozen
class ControlPlane:
    """Everything between the daemon and the agents of its host."""

    foundation: Foundation
    directory: AgentDirectory
    methods: MethodTable  # that agents call
    channel: ControlChannel
    certificates: AgentCertificates
    certificate_service: CertificateService
    rotation: CaRotation
    supervisor: AgentSupervisor
    clocks: ClockMonitor
    recorder: AgentStateRecorder

    def subscribe(self) -> None:
        """Subscribe to the directory's events; the recorder is first, because services read its rows."""
        self.recorder.subscribe()
        self.certificates.subscribe()
        self.clocks.subscribe()
        self.rotation.subscribe()

    async def listen(self) -> None:
        """Open the listeners for agents."""
        for host, port in self.foundation.configuration.management.control.listeners:
            await self.channel.listen(self.foundation.identity, host, port)

    def start(self) -> None:
        """Start the periodic checks of certificates, CA and agents."""
        self.certificates.start(self.channel.recheck)
        self.rotation.start()
        self.supervisor.start()

    def stop(self) -> None:
        self.certificates.stop()
        self.rotation.stop()
        self.supervisor.stop()

    async def close(self) -> None:
        """Close listeners and connections; agents dial until a daemon answers again."""
        await self.channel.close()


def make_control_plane(reactor: Reactor, foundation: Foundation, drivers: HostDrivers) -> ControlPlane:
    """Make all parts; `subscribe` connects them."""
    configuration, database, authority = (
        foundation.configuration,
        foundation.database,
        foundation.authority,
    )
    control = configuration.management.control
    directory = AgentDirectory(drivers.has_process, drivers.timeout_scale)
    methods = MethodTable("systemvm management daemon, for agents", RELEASE)
    certificates = AgentCertificates(database, directory, authority, reactor)
    clocks = ClockMonitor(directory, drivers.set_clock, seconds=reactor.seconds)
    channel = ControlChannel(
        reactor,
        directory,
        authority,
        methods,
        host_uuid=foundation.host.uuid,
        ping_interval_s=control.ping_interval_s,
        clocks=clocks,
        on_refused=RefusalRecorder(database, directory, reactor.seconds, clocks.doubted),
        source_of=BridgePortSource(
            {network.bridge for network in configuration.labels.values() if network.is_control}
        ),
    )
    rotation = CaRotation(reactor, directory, authority, drivers.has_process, channel.recheck)
    return ControlPlane(
        foundation=foundation,
        directory=directory,
        methods=methods,
        channel=channel,
        certificates=certificates,
        certificate_service=CertificateService(reactor, directory, authority, certificates, rotation),
        rotation=rotation,
        supervisor=AgentSupervisor(
            reactor,
            directory,
            interval_s=control.ping_interval_s,
            missed_pings=control.missed_pings,
        ),
        clocks=clocks,
        recorder=AgentStateRecorder(database, directory),
    )
