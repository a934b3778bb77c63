# SPDX-License-Identifier: Apache-2.0
"""Reconciles the console sessions of a CPVM with the rows, both ways."""

from __future__ import annotations

from datetime import datetime, timedelta

from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.state import console_revocations, console_sessions, instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.wire.console import CONSOLE_END, CONSOLE_LIST, ConsoleEnd, ConsoleRefusal, ConsoleSessions

#: The CPVM might not have the session of a token yet that was spent within this time.
GRACE = timedelta(seconds=30)
LOST = "the console proxy lost it"
ENDED = "this console session has ended"


class ConsoleSessionReconciler:
    """The step of AgentReconciler for CPVMs."""

    log = Logger()

    def __init__(self, database: Database, directory: AgentDirectory) -> None:
        self._database = database
        self._directory = directory

    async def reconcile(self, agent: Agent) -> None:
        """End lost sessions in the rows, and ended sessions at the CPVM.

        Raises: RpcError when the CPVM cannot list its sessions; nothing is ended then.
        """
        before = now() - GRACE
        if agent.new_process_at is not None:
            before = max(before, agent.new_process_at)
        answer = await self._directory.call(agent.name, CONSOLE_LIST, result=ConsoleSessions)
        kept = set(answer.session_ids)
        released, living = await self._database.run(_release, agent.name, kept, before)
        if released:
            self.log.info("{count} sessions of {name} ended with it", count=released, name=agent.name)
        strays = sorted(kept - living)
        for code, session_ids in (await self._database.read(_by_code, strays)).items():
            await self._directory.call(agent.name, CONSOLE_END, ConsoleEnd(session_ids, ENDED, code))
        if strays:
            self.log.info("{name} ends {count} sessions", name=agent.name, count=len(strays))


def _by_code(connection: Connection, session_ids: list[str]) -> dict[str, list[str]]:
    """Group sessions by the reason for which they ended."""
    reasons = console_revocations.close_reasons(connection, session_ids)
    codes = {refusal.value for refusal in ConsoleRefusal}
    grouped: dict[str, list[str]] = {}
    for session_id in session_ids:
        reason = reasons.get(session_id)
        code = reason if reason in codes else ConsoleRefusal.SESSION_ENDED.value
        grouped.setdefault(code, []).append(session_id)
    return grouped


def _release(
    connection: Connection, proxy_name: str, kept: set[str], before: datetime
) -> tuple[int, set[str]]:
    """End rows of spent tokens that the CPVM does not have; return how many, and the sessions that live."""
    proxy = instances.by_instance_name(connection, proxy_name)
    living, released = set(), 0
    for session in console_sessions.active(connection, proxy.id):
        if session.uuid in kept or session.acquired is None or session.acquired >= before:
            living.add(session.uuid)
        else:
            released += console_sessions.close(connection, session.uuid, LOST)
    return released, living
