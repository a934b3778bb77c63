# SPDX-License-Identifier: Apache-2.0
"""Writes the states of agents to the rows of their VMs, from which API answers are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control.log_rate_limiter import LogRateLimiter
from systemvm.management.state import events, instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AgentState


class AgentStateRecorder:
    """Copies the directory to the database; one writer thread keeps the changes in order.

    Changes that arrive while others wait to be written join their transaction: after a start of the daemon
    all of its agents change their state several times at once.
    """

    _log = Logger()

    def __init__(
        self, database: Database, directory: AgentDirectory, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._limiter = LogRateLimiter(seconds)
        self._database = database
        self._lock = Lock()
        self._waiting: dict[str, dict[str, Any]] = {}
        self._directory = directory

    def subscribe(self) -> None:
        """Subscribe to every change of an agent's state."""
        self._directory.on_status(self._changed)
        self._directory.on_up(self._written)

    async def _written(self, agent: Agent) -> None:
        """Wait until the row is Up: the next receivers read it."""
        await self._database.run(_nothing)

    def _changed(self, agent: Agent) -> None:
        changes: dict[str, Any] = {
            "agent_state": agent.status.state,
            "agent_reason": agent.status.reason or None,
            "agent_hint": agent.status.hint or None,
        }
        if agent.status.state is AgentState.UP:
            changes["disconnected"] = None
        if agent.hello is not None and agent.status.state is AgentState.CONNECTING:
            changes |= {
                "agent_version": agent.hello.agent_version,
                "image_version": agent.hello.image_version,
                "boot_id": agent.hello.boot_id,
                "host_keys": list(agent.hello.host_keys),
            }
        with self._lock:
            is_scheduled = bool(self._waiting)
            self._waiting.setdefault(agent.name, {}).update(changes)
        if is_scheduled:
            return  # the transaction that has not begun includes it
        writing = Deferred.fromCoroutine(self._database.run(self._write_waiting))
        writing.addErrback(
            lambda failure: self._log.failure("cannot write the states of agents", failure=failure)
        )

    def _write_waiting(self, connection: Connection) -> None:
        """Write all waiting changes; runs on the writer's thread."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
        for name, changes in taken.items():
            try:
                vm = instances.by_instance_name(connection, name)
            except NotFoundError:
                continue  # it was destroyed in the meantime
            _write(connection, vm, changes)
            reason = changes["agent_reason"] or ""
            if changes["agent_state"] is AgentState.ALERT and self._limiter.allows(name, reason):
                _record_alert(connection, vm, reason)


def _record_alert(connection: Connection, vm: Instance, reason: str) -> None:
    """Record an event, so that the reason can be found later."""
    events.record(
        connection,
        "AGENT.ALERT",
        f"the agent of {vm.instance_name} {reason}",
        level="WARN",
        zone_id=vm.zone_id,
        resource_type="SystemVm",
        resource_uuid=vm.uuid,
    )


def _nothing(connection: Connection) -> None:
    """Do nothing: there is one writer thread, so everything submitted before is written by now."""


def _write(connection: Connection, vm: Instance, changes: dict[str, Any]) -> None:
    lost = changes["agent_state"] in (AgentState.ALERT, AgentState.DISCONNECTED)
    if lost and vm.disconnected is None:
        changes = {**changes, "disconnected": now()}
    instances.update(connection, vm.id, **changes)
