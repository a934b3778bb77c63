# SPDX-License-Identifier: Apache-2.0
"""Sends CPVMs the addresses of hosts whose consoles they may reach: their firewall opens for nothing else.

At each connection, every two minutes, and when a host is registered, removed, or gets another address.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import foreign_hosts, instances
from systemvm.management.state.database import Connection, Database
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_HOSTS, ConsoleHosts
from systemvm.wire.role import Role

#: The helper that changes the firewall starts for the call, slowly under emulation.
DEADLINE_S = 120.0


class HostAddressSender:
    """Sends each CPVM the addresses of its zone's hosts; an older one reaches none of them."""

    log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def send_all(self) -> None:
        """Send them to all that are Up, without waiting: one that hangs must not delay a registration."""
        for name in self._agents.up(Role.CPVM):
            Deferred.fromCoroutine(self._send_logged(name))

    async def send(self, name: str) -> None:
        """Send them to one CPVM.

        Raises: RpcError when it does not answer, or cannot change its firewall.
        """
        peer = self._agents.peer(name)
        if peer is None:
            return
        hosts = ConsoleHosts(await self._database.read(_addresses_for, name))
        try:
            await peer.call(CONSOLE_HOSTS, hosts, result=Acknowledgement, deadline_s=DEADLINE_S)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:
                raise

    async def _send_logged(self, name: str) -> None:
        try:
            await self.send(name)
        except RpcError as error:
            self.log.warn("{name} keeps the addresses of hosts: {error}", name=name, error=str(error))  # noqa: G010
        except Exception:
            self.log.failure("cannot send {name} the addresses of hosts", name=name)


def _addresses_for(connection: Connection, name: str) -> list[str]:
    proxy = instances.by_instance_name(connection, name)
    return foreign_hosts.addresses_of_zone(connection, proxy.zone_id)
