# SPDX-License-Identifier: Apache-2.0
"""Sends CPVMs the limits and times of their sessions: at each connection, every two minutes, at a change."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.configurations import console as settings
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import instances
from systemvm.management.state.database import Connection, Database
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_CONFIGURE, SessionLimits
from systemvm.wire.role import Role


class SessionLimitsSender:
    """Sends each CPVM the limits of its zone; an older one keeps its own limits."""

    log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def send_all(self) -> None:
        """Send it to all that are Up, without waiting for them: one that hangs must not delay a change."""
        for name in self._agents.up(Role.CPVM):
            Deferred.fromCoroutine(self._send_logged(name))

    async def send(self, name: str) -> None:
        """Send it to one CPVM.

        Raises: RpcError when it does not answer.
        """
        peer = self._agents.peer(name)
        if peer is None:
            return
        limits = await self._database.read(_limits_of, name)
        try:
            await peer.call(CONSOLE_CONFIGURE, limits, result=Acknowledgement)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:
                raise

    async def _send_logged(self, name: str) -> None:
        try:
            await self.send(name)
        except RpcError as error:
            self.log.warn("{name} keeps its console limits: {error}", name=name, error=str(error))  # noqa: G010
        except Exception:
            self.log.failure("cannot send {name} its console limits", name=name)


def _limits_of(connection: Connection, name: str) -> SessionLimits:
    proxy = instances.by_instance_name(connection, name)
    return settings.of_zone(connection, proxy.zone_id).limits
