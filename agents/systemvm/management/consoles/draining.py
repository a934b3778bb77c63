# SPDX-License-Identifier: Apache-2.0
"""Drains console proxies: they get no new session, and those that are left end at a deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from systemvm.management.configurations import console as settings
from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import console_sessions, instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceType
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_DRAIN, ConsoleDrain

POLL_S = 1.0
#: After the deadline a CPVM has this time to close its sessions, so that their users see why.
CLOSING_S = 5.0


class DrainUndoneError(SystemVmError):
    """A drain that an operation waited for was undone, and with it the operation."""

    code = FailureCode.WRONG_STATE


class ConsoleDraining:
    """Starts and undoes it; the row decides, and the CPVM is told again whenever it connects."""

    def __init__(self, database: Database, agents: ConnectedAgents, clock: IReactorTime) -> None:
        self._database = database
        self._agents = agents
        self._clock = clock

    async def drain(self, uuid: str, deadline_s: float | None = None) -> Instance:
        """Drain a console proxy; without a deadline, the zone's setting is used.

        Raises: NotFoundError when there is no such console proxy; RpcError when it does not answer: then it
            gets no new session nevertheless, and is told later.
        """
        drained = await self._database.run(_drain, uuid, deadline_s)
        await self._tell(drained)
        return drained

    async def undo(self, uuid: str) -> Instance:
        """Let it take new sessions again; raises as `drain`."""
        proxy = await self._database.run(_undo, uuid)
        await self._tell(proxy)
        return proxy

    @asynccontextmanager
    async def emptied(self, uuid: str, report: Callable[[int], None]) -> AsyncIterator[None]:
        """Run a block when the last session has ended, or the deadline is over; then undo the drain.

        `report` is called with the number of sessions that are left.

        Raises: NotFoundError as `drain`, and DrainUndoneError when somebody undid it meanwhile.
        """
        with suppress(RpcError):
            await self.drain(uuid)
        try:
            await self._wait(uuid, report)
            yield
        finally:
            with suppress(RpcError, NotFoundError):  # away, or destroyed
                await self.undo(uuid)

    async def _wait(self, uuid: str, report: Callable[[int], None]) -> None:
        reported = -1
        while True:
            proxy, left = await self._database.run(_left, uuid)
            if proxy.drain_until is None:
                raise DrainUndoneError(f"the drain of {proxy.instance_name} was undone", "start it again")
            if not left or now() >= proxy.drain_until + timedelta(seconds=CLOSING_S):
                return
            if left != reported:
                report(left)
                reported = left
            await deferLater(self._clock, POLL_S)

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


def _console_proxy(connection: Connection, uuid: str) -> Instance:
    proxy = instances.by_uuid(connection, uuid)
    if proxy.type is not InstanceType.CONSOLE_PROXY:
        raise NotFoundError(f"there is no console proxy with the id {uuid}", value=uuid)
    return proxy


def _drain(connection: Connection, uuid: str, deadline_s: float | None) -> Instance:
    proxy = _console_proxy(connection, uuid)
    if deadline_s is None:
        deadline_s = settings.of_zone(connection, proxy.zone_id).drain_timeout_s
    return instances.update(connection, proxy.id, drain_until=now() + timedelta(seconds=deadline_s))


def _undo(connection: Connection, uuid: str) -> Instance:
    return instances.update(connection, _console_proxy(connection, uuid).id, drain_until=None)


def _left(connection: Connection, uuid: str) -> tuple[Instance, int]:
    console_sessions.expire(connection)
    proxy = instances.by_uuid(connection, uuid)
    return proxy, len(console_sessions.active(connection, proxy.id))
