# SPDX-License-Identifier: Apache-2.0
"""Connects a console to what its session shows: a screen or a serial port, and to its recording."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.logger import Logger

from systemvm.cpvm.console_connection import ConsoleConnection, OpenedTarget
from systemvm.cpvm.grants import Grants
from systemvm.cpvm.management_client import ConsoleAuthority
from systemvm.cpvm.metrics import ConsoleMetrics, timed
from systemvm.cpvm.recording.console_recordings import ConsoleRecordings
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.serial_ports import SerialPorts
from systemvm.cpvm.vnc_target import VncDialer
from systemvm.wire.console import ConsoleKind, ConsoleSession, ConsoleTargetRequest
from systemvm.wire.recording import RecordingEnd, RecordingOrder

#: A session that the daemon refuses with one of these can never be opened again.
_FINAL = frozenset(
    {
        BrowserRefusal.SESSION_ENDED,
        BrowserRefusal.MACHINE_GONE,
        BrowserRefusal.LOGGED_OUT,
        BrowserRefusal.ACCESS_REVOKED,
    }
)


class TargetOpener:
    """Opens targets of sessions that are admitted; `recordings` is None where nothing is recorded."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        authority: ConsoleAuthority,
        grants: Grants,
        metrics: ConsoleMetrics,
        recordings: ConsoleRecordings | None,
    ) -> None:
        self._reactor = reactor
        self._authority = authority
        self._grants = grants
        self._metrics = metrics
        self._recordings = recordings
        self._serial_ports = SerialPorts(reactor)

    async def open(
        self, connection: ConsoleConnection, session: ConsoleSession, request_id: str
    ) -> OpenedTarget:
        """Connect to the session's target, of which the daemon knows where it is now.

        Raises: ConsoleRefusedError when the daemon refuses, or the target cannot be reached.
        """
        request = ConsoleTargetRequest(session.session_id, request_id)
        try:
            target = session.target or await self._authority.target(request)
        except ConsoleRefusedError as refused:
            if refused.refusal in _FINAL:
                self._grants.end(session.session_id, refused.refusal.title, refused.refusal)
            raise
        connection.screen = (target.host, target.port)
        vnc, port, tap = None, None, None
        if session.kind is ConsoleKind.SERIAL:
            port = await self._serial_ports.join(target, partial(self._authority.scrollback, request))
        else:
            dialing = VncDialer(self._reactor, target).dial()  # the browser's handshake goes on meanwhile
            vnc = await timed(dialing, self._metrics.screens, self._reactor.seconds)
        self.log.info(
            "{client} opened the console of {machine}, session {session}",
            client=connection.client_address,
            machine=session.virtual_machine_id,
            session=session.session_id,
            kind=session.kind.value,
        )
        if target.recording is not None and self._recordings is not None:
            order = target.recording
            tap = self._recordings.tap(
                order,
                session.policy,
                None if vnc is None else vnc.server_init,
                lambda end: self._recorded(connection, order, end),
                lambda is_open: self._tell_page(connection, "unrecorded" if is_open else "recorded"),
            )
        return OpenedTarget(session.display_name, vnc, session.policy, tap, port)

    def _recorded(self, connection: ConsoleConnection, order: RecordingOrder, end: RecordingEnd) -> None:
        """Go on without a recording that has ended before its connection, unless that is not permitted."""
        if end is RecordingEnd.COMPLETE:
            return
        if order.is_required:
            connection.refuse(BrowserRefusal.NOT_RECORDED)
            return
        self._tell_page(connection, "unrecorded")

    def _tell_page(self, connection: ConsoleConnection, what: str) -> None:
        """Send a notice to a console's own page; other clients do not expect messages."""
        grant = None if connection.session is None else self._grants.get(connection.session.session_id)
        if grant is not None and grant.secret is not None:
            connection.notify({"notice": what})
