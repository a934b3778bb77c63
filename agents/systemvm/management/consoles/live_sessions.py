# SPDX-License-Identifier: Apache-2.0
"""Lists console sessions: the rows, with what the CPVMs know about open ones at this moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import accounts, console_session_list, instances
from systemvm.management.state.accounts import User
from systemvm.management.state.console_session_list import ConsoleSessionFilter
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.console import CONSOLE_LIST, ConsoleSessions, LiveSession

#: A CPVM that does not answer by then is listed without its traffic.
DEADLINE_S = 3.0


@frozen
class ListedSession:
    """A session with the rows that it names."""

    row: ConsoleSessionRow
    user: User
    vm: Instance
    proxy: Instance | None
    live: LiveSession | None = None


class ConsoleSessionQueries:
    """Finds sessions."""

    log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    @property
    def database(self) -> Database:
        return self._database

    async def page(self, which: ConsoleSessionFilter, window: slice) -> tuple[list[ListedSession], int]:
        """Return the sessions in a window of those that fit, the newest first, and how many fit."""
        listed, count = await self._database.read(_page, which, window)
        living = [each for each in listed if each.row.acquired is not None and each.row.removed is None]
        live = await self._live({each.proxy.instance_name for each in living if each.proxy is not None})
        return [evolve(each, live=live.get(each.row.uuid)) for each in listed], count

    async def find_open(self, uuid: str, account_ids: frozenset[int] | None) -> ListedSession | None:
        """Return a session or an unopened link of a user of these accounts, unless it has ended."""
        which = ConsoleSessionFilter(account_ids=account_ids, uuid=uuid)
        found, _ = await self._database.read(_page, which, slice(0, 1))
        return next((each for each in found if each.row.removed is None), None)

    async def _live(self, proxies: Iterable[str]) -> Mapping[str, LiveSession]:
        asked = [Deferred.fromCoroutine(self._live_of(name)) for name in proxies]
        found = await gatherResults(asked)
        return {session.session_id: session for sessions in found for session in sessions}

    async def _live_of(self, name: str) -> list[LiveSession]:
        peer = self._agents.peer(name)
        if peer is None:
            return []
        try:
            answer = await peer.call(CONSOLE_LIST, result=ConsoleSessions, deadline_s=DEADLINE_S)
        except RpcError as error:
            self.log.info("{name} does not list its consoles: {error}", name=name, error=str(error))
            return []
        return list(answer.live)


def _page(
    connection: Connection, which: ConsoleSessionFilter, window: slice
) -> tuple[list[ListedSession], int]:
    found, count = console_session_list.page(connection, which, window)
    users = accounts.users_by_id(connection, (row.user_id for row in found))
    numbers = {row.vm_id for row in found} | {row.proxy_id for row in found if row.proxy_id is not None}
    machines = instances.by_ids(connection, sorted(numbers))
    listed = [
        ListedSession(row, users[row.user_id], machines[row.vm_id], machines.get(row.proxy_id or 0))
        for row in found
    ]
    return listed, count
