# SPDX-License-Identifier: Apache-2.0
"""The CPVM's part of the agent: the RPC methods of consoles, the listener, and reports to the daemon."""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.assets import Assets
from systemvm.cpvm.console_server import ConsoleServer
from systemvm.cpvm.host_addresses import HostAddresses
from systemvm.cpvm.http_site import ConsoleSite
from systemvm.cpvm.management_client import ManagementClient
from systemvm.cpvm.recording.console_recordings import ConsoleRecordings
from systemvm.cpvm.recording.recorder_link import spawn_with
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.cpvm.routes import Routes
from systemvm.guest.context import AgentContext
from systemvm.rpc.core.errors import INVALID_PARAMS, RpcError
from systemvm.rpc.core.method import Call
from systemvm.service.connection_limits import ConnectionLimits
from systemvm.service.metrics import Metric
from systemvm.web.certificate import CertificateError
from systemvm.web.challenges import FindContext, PendingChallenges
from systemvm.web.expiry_metric import expiry_metrics
from systemvm.web.public_port import BOUNDS
from systemvm.web.tls_port import TlsPort
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import CONSOLE_CHALLENGE, AcmeChallenges
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.console import (
    CONSOLE_CLOSED,
    CONSOLE_CONFIGURE,
    CONSOLE_DRAIN,
    CONSOLE_END,
    CONSOLE_HOSTS,
    CONSOLE_LIST,
    CONSOLE_LOAD,
    CONSOLE_RETARGET,
    CONSOLE_SETUP,
    ConsoleClosed,
    ConsoleDrain,
    ConsoleEnd,
    ConsoleHosts,
    ConsoleLoad,
    ConsoleRetarget,
    ConsoleSessions,
    ConsoleSetup,
    SessionLimits,
)
from systemvm.wire.role import Role

#: The socket unit's FileDescriptorName.
SOCKET_NAME = "console"
PORT = 8443
LOAD_INTERVAL_S = 5.0
IDLE_LOAD_INTERVAL_S = 60.0
NOVNC = "opt/systemvm/novnc"
#: Ends of sessions that are reported at once. The channel carries 64 calls: when a thousand browsers leave
#: together, their reports must not keep a new session's token from being checked.
REPORTS_AT_ONCE = 16


class ConsoleRole:
    """The console server of one agent."""

    log = Logger()

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._reactor = context.reactor
        self._recordings = ConsoleRecordings(
            self._reactor, context.paths.recordings, spawn_with(self._reactor, context.paths)
        )
        self._reports = DeferredSemaphore(REPORTS_AT_ONCE)
        self._server = ConsoleServer(
            self._reactor,
            ManagementClient(context.peer),
            Assets.load(context.paths.root / NOVNC),
            self._closed,
            recordings=self._recordings,
            state_path=context.paths.console_state,
        )
        self._port: TlsPort | None = None
        self._challenges = PendingChallenges(self._reactor, self._use_challenges)
        self._idle_report_s: float | None = None  # when the daemon was last sent an empty list
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = self._reactor
        self._add_methods(context)
        context.metrics.append(self._metrics)
        context.on_stop.append(self._stop)
        self._recordings.recover()
        self._ticking.start(LOAD_INTERVAL_S, now=False)

    def _add_methods(self, context: AgentContext) -> None:
        """Add what the daemon calls."""
        context.methods.add(
            CONSOLE_SETUP,
            self._set_up,
            params=ConsoleSetup,
            result=Acknowledgement,
            roles=frozenset({Role.MANAGEMENT.value}),
            summary="Set the console proxy's public certificate and address, and listen",
        )
        for name, handler, params, result, summary in (
            (CONSOLE_LIST, self._list, None, ConsoleSessions, "List the console sessions"),
            (CONSOLE_END, self._end, ConsoleEnd, Acknowledgement, "End console sessions"),
            (
                CONSOLE_CHALLENGE,
                self._challenge,
                AcmeChallenges,
                Acknowledgement,
                "Answer the handshakes by which an ACME server checks names, or no more",
            ),
            (
                CONSOLE_RETARGET,
                self._retarget,
                ConsoleRetarget,
                Acknowledgement,
                "Have the consoles of a virtual machine connect to its present screen",
            ),
            (
                CONSOLE_DRAIN,
                self._drain,
                ConsoleDrain,
                Acknowledgement,
                "Take no new session, and end those that are open by a time; or undo that",
            ),
            (
                CONSOLE_CONFIGURE,
                self._configure,
                SessionLimits,
                Acknowledgement,
                "Set the limits and times of sessions, those that are open included",
            ),
            (
                CONSOLE_HOSTS,
                HostAddresses(self._reactor, context.paths).set,
                ConsoleHosts,
                Acknowledgement,
                "Set the hosts whose consoles can be reached beside those of the cloud's own",
            ),
        ):  # fmt: skip
            context.methods.add(
                name,
                handler,
                params=params,
                result=result,
                roles=frozenset({Role.MANAGEMENT.value}),
                summary=summary,
            )

    async def _set_up(self, call: Call, setup: ConsoleSetup) -> Acknowledgement:
        try:
            self._server.set_up(setup)
        except (CertificateError, ValueError) as wrong:
            hint = "correct the certificate; the previous one stays in use"
            raise RpcError(INVALID_PARAMS, f"{wrong}", {"hint": hint}) from None
        if self._port is None:
            self._listen()
        return Acknowledgement()

    async def _challenge(self, call: Call, wanted: AcmeChallenges) -> Acknowledgement:
        if self._port is None:
            raise RpcError.refused(
                CallRefusal.CANNOT_LISTEN, "console has no certificate yet", "repeat it later"
            )
        try:
            self._challenges.replace(wanted.challenges)
        except (CertificateError, ValueError) as wrong:
            raise RpcError(INVALID_PARAMS, f"{wrong}") from None
        return Acknowledgement()

    def _use_challenges(self, find: FindContext | None) -> None:
        if self._port is not None:
            self._port.challenge = find

    async def _list(self, call: Call, params: None) -> ConsoleSessions:
        live = self._server.live_sessions()
        return ConsoleSessions([session.session_id for session in live], live)

    async def _end(self, call: Call, end: ConsoleEnd) -> Acknowledgement:
        refusal = BrowserRefusal.from_daemon(end.code) if end.code else BrowserRefusal.SESSION_ENDED
        for session_id in end.session_ids:
            self._server.end_session(session_id, end.reason, refusal)
        return Acknowledgement()

    async def _retarget(self, call: Call, moved: ConsoleRetarget) -> Acknowledgement:
        self._server.retarget(moved)
        return Acknowledgement()

    async def _drain(self, call: Call, drain: ConsoleDrain) -> Acknowledgement:
        self._server.drain(drain.deadline_s)
        return Acknowledgement()

    async def _configure(self, call: Call, limits: SessionLimits) -> Acknowledgement:
        self._server.configure(limits)
        return Acknowledgement()

    def _metrics(self) -> list[Metric]:
        server = self._server
        live = server.live_sessions()
        return expiry_metrics(server.public.expires_unix_s) + server.metrics.metrics(
            sessions=len(live),
            connected=sum(session.is_connected for session in live),
            places=server.grants.limits.max_sessions,
            is_draining=server.is_draining,
        )

    def _listen(self) -> None:
        """Accept connections; not before the setup, because without a certificate no handshake succeeds."""
        server, public = self._server, self._server.public
        site = ConsoleSite(
            self._reactor, lambda: public.endpoint, Routes(server).dispatch, lambda: public.trusted_proxies
        )
        inherited = self._context.sockets.get(SOCKET_NAME)
        if inherited is not None:
            port = TlsPort.adopt(self._reactor, inherited, site)
        else:
            port = TlsPort.bind(self._reactor, self._context.boot.get("eth2ip", ""), PORT, site)
        port.context = public.context
        port.on_handshake = server.metrics.tls_handshakes.observe
        port.limits = ConnectionLimits(BOUNDS, public.is_proxy)
        try:
            port.startListening()
        except CannotListenError as refused:
            hint = f"end the program that uses port {PORT}"
            raise RpcError.refused(CallRefusal.CANNOT_LISTEN, f"{refused}", hint) from None
        self._port = port

    def _tick(self) -> None:
        try:
            self._server.tick()
            now_s = self._reactor.seconds()
            load = ConsoleLoad(self._server.watched_session_ids())
            if (
                load.session_ids
                or self._idle_report_s is None
                or now_s - self._idle_report_s >= IDLE_LOAD_INTERVAL_S
            ):
                self._context.notify_daemon(CONSOLE_LOAD, load, replaces=CONSOLE_LOAD)
                # an idle proxy reports at once, and then once a minute
                self._idle_report_s = None if load.session_ids else now_s
        except Exception:
            # A LoopingCall ends with its first exception, and idle connections would no longer be pinged.
            self.log.failure("cannot report the console load")

    def _closed(self, closed: ConsoleClosed) -> None:
        # A call that is repeated until the daemon answers, because a session's end must not be lost.
        def report() -> Deferred[None]:
            return Deferred.fromCoroutine(self._context.call_daemon(CONSOLE_CLOSED, closed))

        self._reports.run(report).addErrback(self._failed, CONSOLE_CLOSED)

    def _failed(self, failure: Failure, what: str) -> None:
        self.log.failure("{what} failed", failure=failure, what=what)

    async def _stop(self) -> None:
        self._challenges.stop()
        if self._ticking.running:
            self._ticking.stop()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        await self._server.stop()
        await self._recordings.stop()


def install(context: AgentContext) -> None:
    """Add the console proxy's methods to an agent; it listens after the daemon's setup."""
    ConsoleRole(context)
