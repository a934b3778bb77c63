# SPDX-License-Identifier: Apache-2.0
"""The recorder's connection to the daemon: by the agent's identity, beside the agent's own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.guest.context import AgentContext
from systemvm.guest.identity import AgentIdentity
from systemvm.guest.paths import GuestPaths
from systemvm.guest.service import AgentSettings
from systemvm.guest.version import VERSION
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.tls.identity import Identity
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import CONSOLE_RECORDER

GREETING_DEADLINE_S = 20.0


class RecorderConnection:
    """Stays connected; `call` waits for the connection, and repeats a call that was lost with it."""

    log = Logger()

    def __init__(self, reactor: Any, paths: GuestPaths) -> None:
        self._reactor = reactor
        self._settings = settings = AgentSettings.read(paths)
        methods = MethodTable("systemvm recorder", VERSION)
        self._dialer = Dialer(reactor, self._identity, methods, settings.hosts, self._greet)
        self._context = AgentContext(
            reactor,
            paths,
            settings.name,
            settings.role,
            settings.boot,
            methods,
            {},
            lambda: self._dialer.peer,
        )
        self.call = self._context.call_daemon

    def start(self) -> None:
        self._dialer.start()

    def stop(self) -> Deferred[None]:
        return self._dialer.stop()

    def _identity(self) -> Identity:
        """Read the identity again: the agent renews it."""
        return AgentIdentity(self._settings.paths, self._settings.name, self._settings.role).current()

    async def _greet(self, peer: Peer) -> None:
        await peer.call(CONSOLE_RECORDER, None, result=Acknowledgement, deadline_s=GREETING_DEADLINE_S)
        self._reactor.callLater(0, self._context.connected)  # the dialer sets its peer after this
