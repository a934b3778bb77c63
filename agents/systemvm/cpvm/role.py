# SPDX-License-Identifier: Apache-2.0
"""The CPVM's part of the agent: the daemon sets up the console, browsers use it, the daemon hears of it."""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.assets import Assets
from systemvm.cpvm.certificate import CertificateError
from systemvm.cpvm.console_server import Front
from systemvm.cpvm.http_site import ConsoleSite
from systemvm.cpvm.management_client import DaemonAuthority
from systemvm.cpvm.refusal import Refusal
from systemvm.cpvm.routes import Web
from systemvm.cpvm.tls_transport import BOUNDS, TlsPort
from systemvm.guest.context import Context
from systemvm.rpc.core.errors import INVALID_PARAMS, RpcError
from systemvm.rpc.core.method import Call
from systemvm.service.connection_limits import ConnectionLimits
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import (
    CONSOLE_CLOSED,
    CONSOLE_END,
    CONSOLE_LIST,
    CONSOLE_LOAD,
    CONSOLE_SETUP,
    ConsoleClosed,
    ConsoleEnd,
    ConsoleLoad,
    ConsoleSessions,
    ConsoleSetup,
)
from systemvm.wire.role import Role

#: The socket unit's FileDescriptorName.
SOCKET_NAME = "console"
PORT = 8443
LOAD_INTERVAL_S = 5.0
IDLE_LOAD_INTERVAL_S = 60.0
NOVNC = "opt/systemvm/novnc"


class ConsoleRole:
    """One console front on one agent."""

    log = Logger()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reactor = context.reactor
        self._front = Front(
            self._reactor,
            DaemonAuthority(context.peer),
            Assets.load(context.paths.root / NOVNC),
            self._closed,
        )
        self._port: TlsPort | None = None
        self._told_s: float | None = None  # when it was last told that there are none
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = self._reactor
        context.methods.add(
            CONSOLE_SETUP,
            self._set_up,
            params=ConsoleSetup,
            result=Acknowledgement,
            roles=frozenset({Role.MANAGEMENT.value}),
            summary="The public certificate and address of this console proxy; it listens from then on.",
        )
        for name, handler, params, result, summary in (
            (CONSOLE_LIST, self._list, None, ConsoleSessions, "The sessions that are kept here"),
            (CONSOLE_END, self._end, ConsoleEnd, Acknowledgement, "End sessions that there are no more"),
        ):  # fmt: skip
            context.methods.add(
                name,
                handler,
                params=params,
                result=result,
                roles=frozenset({Role.MANAGEMENT.value}),
                summary=summary,
            )
        context.on_stop.append(self._stop)
        self._ticking.start(LOAD_INTERVAL_S, now=False)

    async def _set_up(self, call: Call, setup: ConsoleSetup) -> Acknowledgement:
        try:
            self._front.set_up(setup)
        except (CertificateError, ValueError) as wrong:
            raise RpcError(INVALID_PARAMS, f"{wrong}", {"hint": "the last good certificate stays"}) from None
        if self._port is None:
            self._listen()
        return Acknowledgement()

    async def _list(self, call: Call, params: None) -> ConsoleSessions:
        return ConsoleSessions(self._front.grants.session_ids())

    async def _end(self, call: Call, end: ConsoleEnd) -> Acknowledgement:
        refusal = Refusal.from_daemon(end.code) if end.code else Refusal.SESSION_ENDED
        for session_id in end.session_ids:
            self._front.end_session(session_id, end.reason, refusal)
        return Acknowledgement()

    def _listen(self) -> None:
        """Accepting begins here, not before: without a certificate nobody could be greeted."""
        front = self._front
        site = ConsoleSite(
            self._reactor, lambda: front.endpoint, Web(front).dispatch, lambda: front.trusted_proxies
        )
        inherited = self._context.sockets.get(SOCKET_NAME)
        if inherited is not None:
            port = TlsPort.adopt(self._reactor, inherited, site)
        else:
            port = TlsPort.bind(self._reactor, self._context.boot.get("eth2ip", ""), PORT, site)
        port.context = self._front.context
        port.limits = ConnectionLimits(BOUNDS, front.is_proxy)
        try:
            port.startListening()
        except CannotListenError as refused:
            raise RpcError.refused("cannot_listen", f"{refused}", "another program has the port") from None
        self._port = port

    def _tick(self) -> None:
        try:
            self._front.tick()
            now_s = self._reactor.seconds()
            load = ConsoleLoad(self._front.watched_session_ids())
            if load.session_ids or self._told_s is None or now_s - self._told_s >= IDLE_LOAD_INTERVAL_S:
                self._context.notify_daemon(CONSOLE_LOAD, load, replaces=CONSOLE_LOAD)
                # one that nobody uses any more says so at once, and then seldom
                self._told_s = None if load.session_ids else now_s
        except Exception:
            # A looping call ends with its first exception, and idle connections would no longer be kept.
            self.log.failure("console load failed")

    def _closed(self, closed: ConsoleClosed) -> None:
        # A call, repeated until the daemon answers: a session's end must not be lost.
        telling = Deferred.fromCoroutine(self._context.call_daemon(CONSOLE_CLOSED, closed))
        telling.addErrback(self._failed, "console.closed")

    def _failed(self, failure: Failure, what: str) -> None:
        self.log.failure("{what} failed", failure=failure, what=what)

    async def _stop(self) -> None:
        if self._ticking.running:
            self._ticking.stop()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        await self._front.stop()


def install(context: Context) -> None:
    """Make an agent a console proxy; nothing listens until the daemon has set it up."""
    ConsoleRole(context)
