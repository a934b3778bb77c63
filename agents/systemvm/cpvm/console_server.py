# SPDX-License-Identifier: Apache-2.0
"""The console server: its certificate and address, its sessions, and the open connections of browsers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.logger import Logger

from systemvm.cpvm.assets import Assets
from systemvm.cpvm.console_connection import ConsoleConnection, OpenedTarget
from systemvm.cpvm.drain import Drain
from systemvm.cpvm.grants import Grant, Grants
from systemvm.cpvm.management_client import ConsoleAuthority
from systemvm.cpvm.metrics import ConsoleMetrics, timed
from systemvm.cpvm.open_connections import OpenConnections
from systemvm.cpvm.page_notices import PageNotices
from systemvm.cpvm.public_side import PublicSide
from systemvm.cpvm.recording.console_recordings import ConsoleRecordings
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.rfb import display_name
from systemvm.cpvm.state_keeper import StateKeeper
from systemvm.cpvm.target_opener import TargetOpener
from systemvm.cpvm.timeouts import next_timeout, notice
from systemvm.cpvm.websocket import CloseCode
from systemvm.web.tls_transport import TlsTransport
from systemvm.wire.console import (
    ConsoleAuthorize,
    ConsoleClosed,
    ConsoleKind,
    ConsolePower,
    ConsoleRetarget,
    ConsoleSession,
    ConsoleSetup,
    LiveSession,
    MachinePower,
    PowerAction,
    SessionLimits,
)

STOP_DEADLINE_S = 3.0


@frozen
class ConsoleLimits:
    """How many connections there can be from one address at once; the zone limits the sessions."""

    connections_of_address: int = 100


class ConsoleServer:
    """Opens consoles for the routes; `on_closed` is called once at the end of each session.

    With `state_path` it continues where a process before has ended.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        authority: ConsoleAuthority,
        assets: Assets,
        on_closed: Callable[[ConsoleClosed], None],
        limits: ConsoleLimits | None = None,
        recordings: ConsoleRecordings | None = None,
        state_path: Path | None = None,
    ) -> None:
        self.assets = assets
        self.public = PublicSide()
        self.metrics = ConsoleMetrics()
        self.grants = Grants(reactor.seconds, self._session_ended)
        self._reactor = reactor
        self._authority = authority
        self._targets = TargetOpener(reactor, authority, self.grants, self.metrics, recordings)
        self._limits = limits or ConsoleLimits()
        self._on_closed = on_closed
        self._connections = OpenConnections()
        self._of_session: dict[str, ConsoleConnection] = {}  # the connection that each session has now
        self._notices = PageNotices(self.grants, self._of_session, self.public)
        self._stopping = False
        self._drain = Drain(reactor, self._end_all)
        self._keeper = None if state_path is None else StateKeeper(state_path, self.grants, self._drain)
        if self._keeper is not None:
            self._keeper.restore()

    # -- the setup

    def configure(self, limits: SessionLimits) -> None:
        """Set the limits and times of sessions, those that are open included."""
        if limits != self.grants.limits:
            self.grants.limits = limits
            self._save()

    def set_up(self, setup: ConsoleSetup) -> bool:
        """Use this certificate and address from the next handshake on; return False when nothing changed.

        Raises: CertificateError or ValueError when the setup is unusable; the previous one stays in use.
        """
        if not self.public.use(setup):
            return False
        self.grants.binds_address = setup.bind_address
        self.grants.wait_for_browsers()
        self._notices.update_all()
        return True

    # -- sessions

    async def spend(self, request: ConsoleAuthorize) -> ConsoleSession:
        """Exchange a one-time token for a session.

        Raises: ConsoleRefusedError when there is no place, or the daemon refuses or cannot be reached.
        """
        if self._drain.is_on:  # before the token is spent
            raise ConsoleRefusedError(BrowserRefusal.DRAINING)
        if self._stopping or self.grants.is_full:
            raise ConsoleRefusedError(BrowserRefusal.TOO_MANY)
        answering = self._authority.authorize(request)
        return await timed(answering, self.metrics.validations, self._reactor.seconds)

    def display_name(self, session: ConsoleSession) -> str:
        return display_name(session.display_name)

    def view_by_token(
        self,
        browser: TlsTransport,
        head: bytes,
        token: str,
        extra: str,
        client_address: str,
        request_id: str,
    ) -> None:
        """Open a console for a client that presents a token at the WebSocket address."""

        async def open_target(connection: ConsoleConnection) -> OpenedTarget:
            request = ConsoleAuthorize(token, client_address, request_id, extra, with_target=True)
            answer = await self.spend(request)
            session = evolve(answer, target=None)  # its password is needed only once
            self.grants.admit_once(session, client_address)
            self._join(connection, session)
            return await self._targets.open(connection, answer, request_id)

        self._start(browser, head, client_address, open_target)

    def view(
        self,
        browser: TlsTransport,
        head_of: Callable[[str | None], bytes],
        session_id: str,
        secret: str | None,
        client_address: str,
        request_id: str,
    ) -> None:
        """Open a console for a browser that already spent its token and has the session's secret.

        `head_of` returns the response to the upgrade, with the next secret or, after a refusal, without one.
        """
        session: ConsoleSession | None = None
        try:
            if self._is_full(client_address):
                raise ConsoleRefusedError(BrowserRefusal.TOO_MANY)
            session, fresh = self.grants.claim(session_id, secret, client_address)
            head = head_of(fresh)
            refused: ConsoleRefusedError | None = None
        except ConsoleRefusedError as error:
            head, refused = head_of(None), error

        async def open_target(connection: ConsoleConnection) -> OpenedTarget:
            if session is None or refused is not None:
                raise refused or ConsoleRefusedError(BrowserRefusal.SESSION_ENDED)
            return await self._targets.open(connection, session, request_id)

        self._start(browser, head, client_address, open_target, session)

    def _start(
        self,
        browser: TlsTransport,
        head: bytes,
        client_address: str,
        open_target: Callable[[ConsoleConnection], Awaitable[OpenedTarget]],
        session: ConsoleSession | None = None,
    ) -> None:
        connection = ConsoleConnection(
            self._reactor, browser, open_target, self._ended, client_address, self._answered
        )
        full = session is None and self._is_full(client_address)
        self._connections.add(connection)
        if session is not None:
            self._join(connection, session)
        browser.take_over(connection, head)
        if full:
            connection.refuse(BrowserRefusal.TOO_MANY)
        else:
            connection.start()

    def _join(self, connection: ConsoleConnection, session: ConsoleSession) -> None:
        """Make it the connection of its session, in the place of the one before."""
        before = self._of_session.get(session.session_id)
        self._of_session[session.session_id] = connection
        self.grants.connected(session.session_id)
        connection.admit(session, self.public.url)
        if before is not None:
            before.refuse(BrowserRefusal.CONTINUED_ELSEWHERE)
            self._count(before)
        self._notices.update(session.watches)

    def _is_full(self, client_address: str) -> bool:
        # Connections without a session do not count: the listener bounds them and closes the oldest.
        of_address = self._connections.of_address(client_address)
        return self._stopping or of_address >= self._limits.connections_of_address

    def _answered(self, connection: ConsoleConnection) -> None:
        if connection.session is not None and self._is_current(connection):
            self.grants.confirmed(connection.session.session_id)

    def _is_current(self, connection: ConsoleConnection) -> bool:
        session = connection.session
        return session is not None and self._of_session.get(session.session_id) is connection

    def _ended(self, connection: ConsoleConnection, reason: str) -> None:
        if connection.refusal is not None and not connection.was_shown:
            self.metrics.refuse(connection.refusal)
        if connection.session is not None and self._is_current(connection):
            session_id = connection.session.session_id
            self.log.info("session {session}: disconnected, {reason}", session=session_id, reason=reason)
            self._count(connection)
            del self._of_session[session_id]
            self.grants.disconnected(session_id, connection.refusal, reason)
            self._notices.update(connection.session.watches)
        self._connections.remove(connection)

    def end_session(
        self, session_id: str, reason: str, refusal: BrowserRefusal = BrowserRefusal.SESSION_ENDED
    ) -> None:
        """Close the session's connections with `refusal` and end the session."""
        connection = self._of_session.get(session_id)
        if connection is not None:
            self._count(connection)
            connection.refuse(refusal)
        self.grants.end(session_id, reason, refusal)

    def _count(self, connection: ConsoleConnection) -> None:
        """Move the connection's bytes and its last input to its session."""
        grant = None if connection.session is None else self.grants.get(connection.session.session_id)
        if grant is not None:
            sent, received = connection.take_bytes()
            grant.sent_bytes += sent
            grant.received_bytes += received
            self.metrics.add_bytes(sent, received)
            if connection.input_at_s is not None:
                grant.input_at_s = max(grant.input_at_s, connection.input_at_s)

    def stay(self, session_id: str, secret: str | None, client_address: str) -> None:
        """The user has asked that a session which is not used stays open.

        Raises: ConsoleRefusedError when the browser has no such session.
        """
        grant = self.grants.find(session_id, secret, client_address)
        grant.input_at_s = self._reactor.seconds()

    async def power(
        self,
        session_id: str,
        secret: str | None,
        action: PowerAction | None,
        client_address: str,
        request_id: str,
    ) -> MachinePower:
        """Ask the daemon for the power state of a session's VM, or to change it as the session's user.

        Raises: ConsoleRefusedError when the browser has no such session, or the daemon refuses.
        """
        self.grants.find(session_id, secret, client_address)
        return await self._authority.power(ConsolePower(session_id, request_id, client_address, action))

    def _session_ended(self, grant: Grant, refusal: BrowserRefusal, reason: str) -> None:
        self.metrics.end(refusal)
        self._on_closed(
            ConsoleClosed(
                grant.session.session_id,
                reason,
                refusal.name.lower(),
                grant.sent_bytes,
                grant.received_bytes,
            )
        )
        for watcher in self.grants.watchers_of(grant.session.session_id):
            self.end_session(watcher, "the session that it watches has ended", BrowserRefusal.WATCHED_ENDED)
        self._notices.update(grant.session.watches)

    def retarget(self, moved: ConsoleRetarget) -> None:
        """Have the browsers of a VM connect again whose console is connected to another place."""
        for session_id, connection in list(self._of_session.items()):
            grant = self.grants.get(session_id)
            if grant is None or grant.secret is None:
                continue  # a program cannot come back; it keeps its screen as long as that exists
            is_serial = grant.session.kind is ConsoleKind.SERIAL
            place = (moved.host, moved.serial_port if is_serial else moved.port)
            is_of_it = grant.session.virtual_machine_id == moved.virtual_machine_id
            if is_of_it and connection.screen not in (None, place):
                connection.refuse(BrowserRefusal.SCREEN_MOVED)

    # -- the end of the proxy

    @property
    def is_draining(self) -> bool:
        return self._drain.is_on

    def drain(self, deadline_s: float | None) -> None:
        """Take no new session, and end those that are left after `deadline_s`; None undoes it."""
        if deadline_s is not None:
            self._drain.begin(self._reactor.seconds() + deadline_s)
        elif self._drain.is_on:
            self._drain.undo()
        else:
            return
        self._save()

    def _save(self) -> None:
        if self._keeper is not None:
            self._keeper.save_proxy()

    def _end_all(self) -> None:
        for session_id in self.grants.session_ids():
            self.end_session(session_id, BrowserRefusal.DRAINED.title, BrowserRefusal.DRAINED)

    # -- time

    def tick(self) -> None:
        """Check idle connections and expired sessions; to be called every few seconds."""
        for connection in self._connections:
            connection.tick()
        now_s = self._reactor.seconds()
        for session_id, connection in list(self._of_session.items()):
            self._count(connection)
            self.grants.save_traffic(session_id)
            grant = self.grants.get(session_id)
            if grant is None:
                continue
            timeout = next_timeout(grant, self.grants.limits)
            if timeout.is_due(now_s):
                self.end_session(session_id, timeout.refusal.title, timeout.refusal)
            elif grant.secret is not None and connection.is_flowing:
                self._warn(connection, grant, now_s)
                self._notices.update(session_id)
        self.grants.sweep()

    def _warn(self, connection: ConsoleConnection, grant: Grant, now_s: float) -> None:
        """Tell the console's own page about a timeout; other clients do not expect messages."""
        before = grant.warned
        message = notice(grant, self.grants.limits, now_s)
        if message is not None and not connection.notify(message):
            grant.warned = before  # again at the next check

    def live_sessions(self) -> list[LiveSession]:
        """Return all sessions as they are now."""
        for connection in self._of_session.values():
            self._count(connection)
        now_s = self._reactor.seconds()
        return [grant.as_live(now_s) for grant in self.grants.all()]

    def watched_session_ids(self) -> list[str]:
        """Return the sessions that have a connection now."""
        return sorted(self._of_session)

    async def stop(self) -> None:
        """Close every connection and wait at most STOP_DEADLINE_S until the browsers have closed theirs."""
        self._stopping = True
        self._drain.stop()
        for connection in self._connections:
            connection.close(CloseCode.GOING_AWAY, "The console proxy restarts")
        await self._connections.all_gone(self._reactor, STOP_DEADLINE_S)
