# SPDX-License-Identifier: Apache-2.0
"""Asks SSVMs what they have sent by links, and adds it to the usage of the images' owners."""

from __future__ import annotations

from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import usage
from systemvm.management.state.database import Database
from systemvm.rpc.core.errors import RpcError
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.agent import Capability
from systemvm.wire.extract import EXTRACT_SERVED, ServedBytes
from systemvm.wire.role import Role

#: What is not asked for when the process that serves is killed is not counted.
INTERVAL_S = 60.0
CALL_DEADLINE_S = 30.0


class ServedUsage:
    """One round a minute, concurrently per SSVM; one whose last call still runs is skipped."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents
        self._asking = SingleFlight[str]()
        self._loop = Periodic(clock, self.collect, INTERVAL_S, what="collect what SSVMs have served")

    def start(self) -> None:
        self._loop.start(now=False)

    def stop(self) -> None:
        self._loop.stop()

    async def collect(self) -> None:
        for name in self._agents.up(Role.SSVM):
            if self._agents.can(name, Capability.LINKS):
                self._asking.start(name, partial(self._ask, name))

    async def collected(self) -> None:
        """Wait for the calls in progress."""
        for name in self._asking.running():
            await self._asking.wait_until_ended(name)

    async def _ask(self, name: str) -> None:
        peer = self._agents.peer(name)
        if peer is None:
            return
        try:
            served: ServedBytes = await peer.call(
                EXTRACT_SERVED, result=ServedBytes, deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:  # an agent of an earlier image has no such method
            self._log.debug("{name} does not count what it serves: {error}", name=name, error=str(error))
            return
        if served.instance:
            counted = {each.account_id: each.size_bytes for each in served.accounts}
            await self._database.run(usage.record_served, name, served.instance, counted)
