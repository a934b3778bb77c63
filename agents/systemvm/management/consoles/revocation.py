# SPDX-License-Identifier: Apache-2.0
"""Ends consoles after a logout, and with their user, account or machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import console_revocations
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.database import Connection, Database
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.console import CONSOLE_END, ConsoleEnd, ConsoleRefusal

K = TypeVar("K")


class ConsoleRevocation:
    """Ends the rows first, so that no session can be opened again, then calls the CPVMs that carry them.

    A CPVM that this call does not reach is called when the sessions are reconciled: at its next connection
    and every two minutes.
    """

    log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents) -> None:
        self._database = database
        self._agents = agents

    async def of_login(self, login_uuid: str) -> None:
        await self._revoke(console_revocations.revoke_of_login, login_uuid, ConsoleRefusal.LOGGED_OUT)

    async def of_users(self, user_ids: Sequence[int]) -> None:
        await self._revoke(console_revocations.revoke_of_users, user_ids, ConsoleRefusal.ACCESS_REVOKED)

    async def of_machine(self, vm_id: int) -> None:
        await self._revoke(console_revocations.revoke_of_vm, vm_id, ConsoleRefusal.MACHINE_GONE)

    async def of_others(self, session: ConsoleSessionRow) -> None:
        """End the open consoles of a VM that this session takes over, those of its kind."""
        await self._revoke(console_revocations.revoke_of_others, session, ConsoleRefusal.TAKEN_OVER)

    async def of_session(self, uuid: str) -> None:
        await self._revoke(console_revocations.revoke_one, uuid, ConsoleRefusal.CLOSED)

    async def _revoke(
        self, revoke: Callable[[Connection, K, str], dict[str, list[str]]], key: K, why: ConsoleRefusal
    ) -> None:
        opened = await self._database.run(revoke, key, why.value)
        for name, session_ids in opened.items():
            # not awaited: a CPVM that hangs must not delay a logout
            Deferred.fromCoroutine(self._end_sessions(name, session_ids, why))

    async def _end_sessions(self, name: str, session_ids: list[str], why: ConsoleRefusal) -> None:
        peer = self._agents.peer(name)
        if peer is None:
            return
        try:
            await peer.call(CONSOLE_END, ConsoleEnd(session_ids, why.value, why.value))
        except RpcError as error:
            self.log.warn("{name} did not end consoles: {error}", name=name, error=str(error))  # noqa: G010
        except Exception:
            self.log.failure("cannot end consoles of {name}", name=name)
