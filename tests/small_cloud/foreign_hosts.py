# SPDX-License-Identifier: Apache-2.0
"""SmallCloud's service for hosts that no daemon drives: their APIs are protocol peers, called at once."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from systemvm.management.consoles.proxy_settings import ProxySettingSender
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.foreign_hosts.access import ApiExchange, HostAccess
from systemvm.management.foreign_hosts.connections import HostConnections
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.service import ForeignHosts, HostSettings
from systemvm.management.pki.seal import Seal
from systemvm.management.state.database import Database

REFRESH_S = 60.0
FINGERPRINT = ":".join(["AB"] * 32)


def foreign_hosts(
    clock: Clock,
    database: Database,
    seal: Seal,
    peers: Mapping[str, ApiExchange],
    names: Mapping[str, str],
    consoles: ConsoleRevocation,
    addresses: ProxySettingSender,
) -> ForeignHosts:
    """Return the service; a host without a peer cannot be reached."""

    def exchange(access: HostAccess) -> ApiExchange:
        if access.host not in peers:
            raise ForeignHostError(f"{access.host} cannot be reached", "start it", ApiFault.UNREACHABLE)
        return peers[access.host]

    def resolve(name: str) -> list[str]:
        if name not in names:
            raise OSError(name)
        return [names[name]]

    connections = HostConnections(maybeDeferred, exchange, resolve, lambda host, port: FINGERPRINT)
    settings = HostSettings(REFRESH_S, consoles.of_machine, addresses.send_all)
    return ForeignHosts(clock, database, seal, connections, settings)
