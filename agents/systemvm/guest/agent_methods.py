# SPDX-License-Identifier: Apache-2.0
"""RPC methods of both appliances: ping, health, checks and state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from systemvm.guest.health import HealthSource
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.errors import INTERNAL, RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATOR, OPERATORS
from systemvm.service.single_flight import SingleFlight
from systemvm.web.metrics_site import Expose
from systemvm.wire.agent import (
    CHECK,
    HEALTH,
    METRICS,
    PING,
    AgentMetrics,
    CheckReport,
    Health,
    Ping,
    Pong,
)
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.role import Role

STATE = "agent.state"  # only for operators; `systemvm-check` calls it
CHECK_DEADLINE_S = 90.0
_REPORT_MAX_BYTES = 256 * 1024

DAEMON = frozenset({Role.MANAGEMENT.value})
DAEMON_AND_OPERATOR = DAEMON | {OPERATOR}


@frozen
class ConnectionState:
    """The agent's connection to its daemon, as `systemctl status` shows it."""

    text: str
    connected: bool
    reconnects: int


class AgentMethods:
    """Implements the methods; `add_to` adds them to a method table."""

    def __init__(
        self,
        reactor: Any,
        paths: GuestPaths,
        health: HealthSource,
        state: Callable[[], ConnectionState],
        expose: Expose,
        waiting: Callable[[], int] | None = None,
    ) -> None:
        """`waiting` returns how many calls of the daemon are being handled, `expose` the agent's metrics."""
        self._waiting = waiting
        self._expose = expose
        self._reactor = reactor
        self._paths = paths
        self._health = health
        self._state = state
        self._running = SingleFlight[str]()

    def add_to(self, methods: MethodTable) -> None:
        methods.add(
            PING,
            self._ping,
            params=Ping,
            result=Pong,
            roles=DAEMON_AND_OPERATOR,
            summary="Return both clocks",
        )
        methods.add(
            HEALTH,
            self._snapshot,
            params=None,
            result=Health,
            roles=DAEMON_AND_OPERATOR,
            summary="Return load, memory and failed units",
        )
        methods.add(
            CHECK, self._check, params=None, result=CheckReport, roles=DAEMON_AND_OPERATOR,
            summary="Run the checks of ssvm-check.sh", deadline_s=CHECK_DEADLINE_S,
            cancel_on_disconnect=True,
        )  # fmt: skip
        methods.add(
            STATE,
            self._get_state,
            params=None,
            result=ConnectionState,
            roles=OPERATORS,
            summary="Return whether the agent is Up, and why not",
        )

        methods.add(
            METRICS,
            self._show_metrics,
            params=None,
            result=AgentMetrics,
            roles=DAEMON_AND_OPERATOR,
            summary="Return the agent's metrics as Prometheus reads them",
        )

    async def _ping(self, call: Call, params: Ping) -> Pong:
        return Pong(params.sent_unix_s, time.time())

    async def _snapshot(self, call: Call, params: None) -> Health:
        # systemctl can take seconds: it runs in a thread
        pool, reconnects = self._reactor.getThreadPool(), self._state().reconnects
        others = 0 if self._waiting is None else max(0, self._waiting() - 1)  # without this call
        health: Health = await self._running.run(
            HEALTH,
            lambda: deferToThreadPool(self._reactor, pool, self._health.snapshot, reconnects, others),
        )
        return health

    async def _show_metrics(self, call: Call, params: None) -> AgentMetrics:
        text, _ = await self._expose("")
        return AgentMetrics(text.decode())

    async def _get_state(self, call: Call, params: None) -> ConnectionState:
        return self._state()

    async def _check(self, call: Call, params: None) -> CheckReport:
        """Call the root helper: the agent's sandbox reaches neither name servers nor stores."""
        # expensive to import, and rarely used
        from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol

        endpoint = UNIXClientEndpoint(self._reactor, str(self._paths.check_socket))
        answer = _ReadUntilClosed()
        try:
            await connectProtocol(endpoint, answer)
        except Exception as error:
            raise RpcError.refused(
                CallRefusal.CHECK_UNAVAILABLE,
                f"cannot connect to the check helper: {error}",
                'run "systemctl status systemvm-check.socket" in the VM',
            ) from error
        try:
            return msgspec.json.decode(await answer.ended, type=CheckReport)
        except msgspec.MsgspecError as error:
            raise RpcError(
                INTERNAL,
                "invalid answer from the check helper",
                {"hint": "run \"journalctl -u 'systemvm-check@*'\" in the VM"},
            ) from error
        finally:
            answer.close()


class _ReadUntilClosed(Protocol):
    """Collects everything until the peer closes the connection."""

    def __init__(self) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _REPORT_MAX_BYTES:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(bytes(self._received))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
