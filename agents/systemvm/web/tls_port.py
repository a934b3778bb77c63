# SPDX-License-Identifier: Apache-2.0
"""A public listening port: every connection becomes a `TlsTransport` with the current TLS context."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import error, tcp
from twisted.internet.interfaces import IProtocolFactory

from systemvm.service.connection_limits import Bounds, ConnectionLimits
from systemvm.web.tls_transport import TlsTransport

HANDSHAKE_DEADLINE_S = 10.0
#: A browser loads the page over up to six connections; a hundred leave room for an office behind one address.
#: Connections that have a session are also bounded by the console server, which can report the refusal.
BOUNDS = Bounds(pending=800, pending_of_source=100, of_owner=100)


class TlsPort(tcp.Port):
    """Accepts connections; `context` is called for each of them, `limits` bound their number."""

    transport = TlsTransport  # type: ignore[assignment]

    def __init__(
        self,
        port: int | None,
        factory: IProtocolFactory,
        backlog: int = 128,
        interface: str = "",
        reactor: Any = None,
    ) -> None:
        super().__init__(port, factory, backlog, interface, reactor)  # type: ignore[arg-type]
        self.context: Callable[[], ssl.SSLContext] = _no_context
        self.handshake_deadline_s = HANDSHAKE_DEADLINE_S
        self.limits = ConnectionLimits(BOUNDS)

    @classmethod
    def adopt(cls, reactor: Any, descriptor: int, factory: IProtocolFactory) -> TlsPort:
        """Use a copy of a listening descriptor that systemd passed; the original stays the caller's."""
        with socket.socket(fileno=socket.dup(descriptor)) as inherited:
            inherited.setblocking(False)
            port = cls._fromListeningDescriptor(reactor, inherited.fileno(), inherited.family, factory)
        return cast(TlsPort, port)

    @classmethod
    def bind(cls, reactor: Any, interface: str, number: int, factory: IProtocolFactory) -> TlsPort:
        """Return a port that will listen at `interface`."""
        return cls(number, factory, interface=interface, reactor=reactor)


def _no_context() -> ssl.SSLContext:
    raise error.CannotListenError("", 0, OSError("no certificate is set"))
