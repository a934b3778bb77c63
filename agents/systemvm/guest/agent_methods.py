# SPDX-License-Identifier: Apache-2.0
"""Methods that both appliances answer: ping, health, checks, state."""

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
from systemvm.wire.agent import CHECK, HEALTH, PING, CheckReport, Health, Ping, Pong
from systemvm.wire.role import Role

STATE = "agent.state"  # operators alone; `systemvm-check` asks it
CHECK_DEADLINE_S = 90.0
_REPORT_MAX_BYTES = 256 * 1024

DAEMON = frozenset({Role.MANAGEMENT.value})
DAEMON_AND_OPERATOR = DAEMON | {OPERATOR}


@frozen
class ConnectionState:
    """How the agent stands with its daemon, as `systemctl status` shows it."""

    text: str
    connected: bool
    reconnects: int


class AgentMethods:
    """Adds itself to a method table."""

    def __init__(
        self,
        reactor: Any,
        paths: GuestPaths,
        health: HealthSource,
        state: Callable[[], ConnectionState],
        waiting: Callable[[], int] | None = None,
    ) -> None:
        """`waiting` counts the daemon's calls that are being handled."""
        self._waiting = waiting
        self._reactor = reactor
        self._paths = paths
        self._health = health
        self._state = state
        self._running = SingleFlight[str]()

    def add_to(self, methods: MethodTable) -> None:
        methods.add(
            PING, self._ping, params=Ping, result=Pong, roles=DAEMON_AND_OPERATOR, summary="Compare clocks"
        )
        methods.add(
            HEALTH,
            self._snapshot,
            params=None,
            result=Health,
            roles=DAEMON_AND_OPERATOR,
            summary="Load and memory",
        )
        methods.add(
            CHECK, self._check, params=None, result=CheckReport, roles=DAEMON_AND_OPERATOR,
            summary="CloudStack's staged checks", deadline_s=CHECK_DEADLINE_S,
            cancel_on_disconnect=True,
        )  # fmt: skip
        methods.add(
            STATE,
            self._tell_state,
            params=None,
            result=ConnectionState,
            roles=OPERATORS,
            summary="Up, or why not",
        )

    async def _ping(self, call: Call, params: Ping) -> Pong:
        return Pong(params.sent_unix_s, time.time())

    async def _snapshot(self, call: Call, params: None) -> Health:
        # systemctl inside may take seconds; the reactor must not
        pool, reconnects = self._reactor.getThreadPool(), self._state().reconnects
        others = 0 if self._waiting is None else max(0, self._waiting() - 1)  # without this very call
        health: Health = await self._running.run(
            HEALTH,
            lambda: deferToThreadPool(self._reactor, pool, self._health.snapshot, reconnects, others),
        )
        return health

    async def _tell_state(self, call: Call, params: None) -> ConnectionState:
        return self._state()

    async def _check(self, call: Call, params: None) -> CheckReport:
        """Ask the root helper: this process may reach neither name servers nor stores."""
        from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol  # dear, and seldom wanted

        endpoint = UNIXClientEndpoint(self._reactor, str(self._paths.check_socket))
        answer = _ReadUntilClosed()
        try:
            await connectProtocol(endpoint, answer)
        except Exception as error:
            raise RpcError.refused(
                "CHECK_UNAVAILABLE",
                f"the check helper does not answer: {error}",
                "systemctl status systemvm-check.socket",
            ) from error
        try:
            return msgspec.json.decode(await answer.ended, type=CheckReport)
        except msgspec.MsgspecError as error:
            raise RpcError(
                INTERNAL,
                "the check helper did not answer a report",
                {"hint": "journalctl -u 'systemvm-check@*'"},
            ) from error
        finally:
            answer.hang_up()


class _ReadUntilClosed(Protocol):
    """All that the other end says until it hangs up."""

    def __init__(self) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._heard = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        if len(self._heard) > _REPORT_MAX_BYTES:
            self.hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(bytes(self._heard))

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
