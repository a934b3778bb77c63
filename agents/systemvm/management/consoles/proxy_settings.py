# SPDX-License-Identifier: Apache-2.0
"""Sends CPVMs what their zone says: at each connection, every two minutes, and at a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.configurations import console as settings
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import foreign_hosts, instances
from systemvm.management.state.database import Connection, Database
from systemvm.rpc.core.call import DEFAULT_DEADLINE_S
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_CONFIGURE, CONSOLE_HOSTS, ConsoleHosts, SessionLimits
from systemvm.wire.role import Role


@frozen
class ProxySetting:
    """One thing that CPVMs are sent; older ones, which lack the method, go on without it."""

    method: str
    read: Callable[[Connection, int], Any]  # by the zone's number
    name: str  # in the log
    deadline_s: float = DEFAULT_DEADLINE_S


def _limits(connection: Connection, zone_id: int) -> SessionLimits:
    return settings.of_zone(connection, zone_id).limits


def _hosts(connection: Connection, zone_id: int) -> ConsoleHosts:
    return ConsoleHosts(foreign_hosts.addresses_of_zone(connection, zone_id))


SESSION_LIMITS = ProxySetting(CONSOLE_CONFIGURE, _limits, "limits and times of sessions")
#: The firewall opens for these alone. The helper that changes it starts for the call, slowly under emulation.
HOST_ADDRESSES = ProxySetting(CONSOLE_HOSTS, _hosts, "addresses of hosts", deadline_s=120.0)


class ProxySettingSender:
    """Sends one setting to CPVMs."""

    log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents, setting: ProxySetting) -> None:
        self._database = database
        self._agents = agents
        self._setting = setting

    async def send_all(self) -> None:
        """Send it to all that are Up, without waiting for them: one that hangs must not delay a change."""
        for name in self._agents.up(Role.CPVM):
            Deferred.fromCoroutine(self._send_logged(name))

    async def send(self, name: str) -> None:
        """Send it to one CPVM.

        Raises: RpcError when it does not answer, or cannot apply it.
        """
        peer = self._agents.peer(name)
        if peer is None:
            return
        setting = self._setting
        value = await self._database.read(self._read, name)
        try:
            await peer.call(setting.method, value, result=Acknowledgement, deadline_s=setting.deadline_s)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:
                raise

    def _read(self, connection: Connection, name: str) -> Any:
        zone_id = instances.by_instance_name(connection, name).zone_id
        return self._setting.read(connection, zone_id)

    async def _send_logged(self, name: str) -> None:
        what = self._setting.name
        try:
            await self.send(name)
        except RpcError as error:
            self.log.warn("{name} keeps its {what}: {error}", name=name, what=what, error=str(error))  # noqa: G010
        except Exception:
            self.log.failure("cannot send {name} its {what}", name=name, what=what)
