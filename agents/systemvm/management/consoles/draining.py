# SPDX-License-Identifier: Apache-2.0
"""Drains console proxies: they get no new session, and those that are left end at a deadline."""

from __future__ import annotations

from datetime import timedelta

from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceType
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_DRAIN, ConsoleDrain


class ConsoleDraining:
    """Starts and undoes it; the row decides, and the CPVM is told again whenever it connects."""

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def drain(self, uuid: str, deadline_s: float | None) -> Instance:
        """Drain a console proxy, or undo it with None.

        Raises: NotFoundError when there is no such console proxy; RpcError when it does not answer: then it
            gets no new session nevertheless, and is told later.
        """
        proxy = await self._database.read(instances.by_uuid, uuid)
        if proxy.type is not InstanceType.CONSOLE_PROXY:
            raise NotFoundError(f"there is no console proxy with the id {uuid}")
        until = None if deadline_s is None else now() + timedelta(seconds=deadline_s)
        drained = await self._database.run(instances.update, proxy.id, drain_until=until)
        await self._tell(drained)
        return drained

    async def reconcile(self, agent: Agent) -> None:
        """Tell a console proxy what its row says.

        Raises: RpcError when it does not answer.
        """
        await self._tell(await self._database.read(instances.by_instance_name, agent.name))

    async def _tell(self, proxy: Instance) -> None:
        peer = self._agents.peer(proxy.instance_name)
        if peer is None:
            return
        left_s = None if proxy.drain_until is None else (proxy.drain_until - now()).total_seconds()
        drain = ConsoleDrain(None if left_s is None else max(0.0, left_s))
        try:
            await peer.call(CONSOLE_DRAIN, drain, result=Acknowledgement)
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:  # an older agent gets no new session nevertheless
                raise
