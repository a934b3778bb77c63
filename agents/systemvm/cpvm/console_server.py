# SPDX-License-Identifier: Apache-2.0
"""The console's front: one listener, the sessions behind it, and everyone who is looking at a screen."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from systemvm.cpvm.assets import Assets
from systemvm.cpvm.certificate import CertificateError, server_context
from systemvm.cpvm.console_connection import ReachedScreen, Viewer
from systemvm.cpvm.grants import Grants
from systemvm.cpvm.management_client import Authority
from systemvm.cpvm.refusal import Refusal, RefusedError
from systemvm.cpvm.rfb import display_name
from systemvm.cpvm.tls_transport import TlsServer
from systemvm.cpvm.vnc_target import ScreenDialer
from systemvm.cpvm.websocket import CloseCode
from systemvm.web.forwarded import Network, holds_proxy, networks
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.console import (
    ConsoleAuthorize,
    ConsoleClosed,
    ConsoleSession,
    ConsoleSetup,
    ConsoleTargetRequest,
)

STOP_DEADLINE_S = 3.0

#: After these answers of the daemon a session can never be opened again.
_FINAL = frozenset({Refusal.SESSION_ENDED, Refusal.MACHINE_GONE, Refusal.LOGGED_OUT, Refusal.ACCESS_REVOKED})


@frozen
class Limits:
    viewers: int = 500
    viewers_of_address: int = 100
    viewers_of_session: int = 8


class Front:
    """What the role sets up and the web serves; `on_closed` hears of each session's end, once."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        authority: Authority,
        assets: Assets,
        on_closed: Callable[[ConsoleClosed], None],
        limits: Limits | None = None,
    ) -> None:
        self.assets = assets
        self.endpoint: PublicEndpoint | None = None
        self.trusted_proxies: list[Network] = []
        self.grants = Grants(reactor.seconds, lambda session, why: on_closed(ConsoleClosed(session, why)))
        self._reactor = reactor
        self._authority = authority
        self._limits = limits or Limits()
        self._context: ssl.SSLContext | None = None
        self._setup_digest = b""
        self._viewers: dict[Viewer, Deferred[None]] = {}
        self._stopping = False

    def set_up(self, setup: ConsoleSetup) -> bool:
        """Use this certificate and address from the next handshake on; False when nothing changed.

        Raises CertificateError or ValueError, and what worked before goes on working.
        """
        parts = (setup.origin, setup.certificate_pem, setup.private_key_pem, str(setup.bind_address))
        text = "\0".join((*parts, *setup.trusted_proxies))
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        if digest == self._setup_digest:
            return False
        endpoint = PublicEndpoint.parse(setup.origin)
        if endpoint.scheme != "https" or endpoint.is_wildcard:
            raise ValueError(
                f"consoles are served over https, at one host: {setup.origin!r} is not such an address"
            )
        proxies = networks(setup.trusted_proxies)
        context = server_context(
            setup.certificate_pem, setup.private_key_pem, host=endpoint.host, now=datetime.now(UTC)
        )
        self.endpoint, self._context, self._setup_digest = endpoint, context, digest
        self.trusted_proxies = proxies
        self.grants.binds_address = setup.bind_address
        self.log.info("consoles are served at {url}", url=endpoint.url)
        return True

    def context(self) -> ssl.SSLContext:
        """The TLS context of the next connection."""
        if self._context is None:
            raise CertificateError("the daemon has not set up the console")
        return self._context

    def is_proxy(self, source: str) -> bool:
        """Whether the connections of a source are those of a configured proxy's many browsers."""
        return holds_proxy(source, self.trusted_proxies)

    # -- sessions

    async def spend(self, token: str, client_address: str, request_id: str) -> ConsoleSession:
        return await self._authority.authorize(ConsoleAuthorize(token, client_address, request_id))

    def display_name(self, session: ConsoleSession) -> str:
        return display_name(session.display_name)

    def view_by_token(
        self, browser: TlsServer, head: bytes, token: str, client_address: str, request_id: str
    ) -> None:
        """A program that uses a token on the WebSocket's own address."""

        async def reach(viewer: Viewer) -> ReachedScreen:
            session = await self.spend(token, client_address, request_id)
            self.grants.admit_once(session)
            return await self._reach(viewer, session, request_id)

        self._start(browser, head, client_address, reach)

    def view(
        self,
        browser: TlsServer,
        head: bytes,
        session_id: str,
        cookie: str | None,
        client_address: str,
        request_id: str,
    ) -> None:
        """A browser that has spent its token before."""

        async def reach(viewer: Viewer) -> ReachedScreen:
            return await self._reach(viewer, self.grants.find(session_id, cookie, client_address), request_id)

        self._start(browser, head, client_address, reach)

    def _start(
        self,
        browser: TlsServer,
        head: bytes,
        client_address: str,
        reach: Callable[[Viewer], Awaitable[ReachedScreen]],
    ) -> None:
        viewer = Viewer(self._reactor, browser, reach, self._ended, client_address)
        full = self._is_full(client_address)
        self._viewers[viewer] = Deferred()
        browser.take_over(viewer, head)
        if full:
            viewer.refuse(Refusal.TOO_MANY)
        else:
            viewer.start()

    def _is_full(self, client_address: str) -> bool:
        # Those without a session fill nothing: the listener bounds them, and closes the oldest.
        of_address = sum(viewer.client_address == client_address for viewer in self._viewers)
        return (
            self._stopping
            or sum(viewer.session is not None for viewer in self._viewers) >= self._limits.viewers
            or of_address >= self._limits.viewers_of_address
        )

    async def _reach(self, viewer: Viewer, session: ConsoleSession, request_id: str) -> ReachedScreen:
        if self._viewers_of(session.session_id) >= self._limits.viewers_of_session:
            raise RefusedError(Refusal.TOO_MANY)
        viewer.admit(session)
        self.grants.connected(session.session_id)
        try:
            target = await self._authority.target(ConsoleTargetRequest(session.session_id, request_id))
        except RefusedError as refused:
            if refused.refusal in _FINAL:
                self.grants.end(session.session_id, refused.refusal.title, refused.refusal)
            raise
        dialed = await ScreenDialer(self._reactor, target).dial()
        self.log.info(
            "{client} sees {machine} in session {session}",
            client=viewer.client_address,
            machine=session.virtual_machine_id,
            session=session.session_id,
        )
        return ReachedScreen(session.display_name, dialed)

    def _viewers_of(self, session_id: str) -> int:
        return sum(v.session is not None and v.session.session_id == session_id for v in self._viewers)

    def _ended(self, viewer: Viewer, reason: str) -> None:
        if viewer.session is not None:
            session_id = viewer.session.session_id
            self.log.info("session {session}: viewer gone, {reason}", session=session_id, reason=reason)
            self.grants.disconnected(session_id, reason)
        gone = self._viewers.pop(viewer, None)
        if gone is not None:
            gone.callback(None)

    def end_session(self, session_id: str, reason: str, refusal: Refusal = Refusal.SESSION_ENDED) -> None:
        """The daemon ended the session: nobody sees its screen any longer, and browsers are told why."""
        for viewer in list(self._viewers):
            if viewer.session is not None and viewer.session.session_id == session_id:
                viewer.refuse(refusal)
        self.grants.end(session_id, reason, refusal)

    # -- time

    def tick(self) -> None:
        """Called every few seconds."""
        for viewer in list(self._viewers):
            viewer.tick()
        self.grants.sweep()

    def watched_session_ids(self) -> list[str]:
        """Sessions that someone is looking at now."""
        return sorted({viewer.session.session_id for viewer in self._viewers if viewer.session is not None})

    async def stop(self) -> None:
        """Tell every browser, and wait a moment for them to hear it."""
        self._stopping = True
        waiting = list(self._viewers.values())
        for viewer in list(self._viewers):
            viewer.close(CloseCode.GOING_AWAY, "The console proxy restarts")
        if waiting:
            gone = DeferredList(waiting, consumeErrors=True)
            gone.addTimeout(STOP_DEADLINE_S, self._reactor)
            gone.addErrback(lambda _: None)
            await gone
