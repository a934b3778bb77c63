# SPDX-License-Identifier: Apache-2.0
"""A public listening port: every connection becomes a `TlsTransport` with the current TLS context."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IProtocolFactory

from systemvm.web.public_port import PublicPort
from systemvm.web.tls_transport import TlsTransport

HANDSHAKE_DEADLINE_S = 10.0


class TlsPort(PublicPort):
    """Accepts connections; `context` is called for each of them."""

    transport = TlsTransport  # type: ignore[assignment]

    def __init__(
        self,
        port: int | None,
        factory: IProtocolFactory,
        backlog: int = 128,
        interface: str = "",
        reactor: Any = None,
    ) -> None:
        super().__init__(port, factory, backlog, interface, reactor)
        self.context: Callable[[], ssl.SSLContext] = _no_context
        self.handshake_deadline_s = HANDSHAKE_DEADLINE_S
        self.on_handshake: Callable[[float], None] = _ignore  # called with the seconds that one took
        #: While it is set, it gets the first bytes of each connection, and can return another context for it.
        self.challenge: Callable[[bytes], ssl.SSLContext | None] | None = None

    @classmethod
    def bind(cls, reactor: Any, interface: str, number: int, factory: IProtocolFactory) -> TlsPort:
        """Return a port that will listen at `interface`."""
        return cls(number, factory, interface=interface, reactor=reactor)


def _ignore(duration_s: float) -> None:
    """Stand for the callback of a port whose handshakes nobody measures."""


def _no_context() -> ssl.SSLContext:
    raise error.CannotListenError("", 0, OSError("no certificate is set"))
