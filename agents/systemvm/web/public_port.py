# SPDX-License-Identifier: Apache-2.0
"""A public listening port, with or without TLS: a listener that systemd passed, and limits for strangers."""

from __future__ import annotations

import socket
from typing import Any, Self, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocolFactory

from systemvm.service.connection_limits import Bounds, ConnectionLimits

#: A browser loads the page over up to six connections; a hundred leave room for an office behind one address.
#: Connections that have a session are also bounded by the console server, which can report the refusal.
BOUNDS = Bounds(pending=800, pending_of_source=100, of_owner=100)


class PublicPort(tcp.Port):
    """Accepts connections; `limits` bound their number."""

    def __init__(
        self,
        port: int | None,
        factory: IProtocolFactory,
        backlog: int = 128,
        interface: str = "",
        reactor: Any = None,
    ) -> None:
        super().__init__(port, factory, backlog, interface, reactor)  # type: ignore[arg-type]
        self.limits = ConnectionLimits(BOUNDS)

    @classmethod
    def adopt(cls, reactor: Any, descriptor: int, factory: IProtocolFactory) -> Self:
        """Use a copy of a listening descriptor that systemd passed; the original stays the caller's."""
        with socket.socket(fileno=socket.dup(descriptor)) as inherited:
            inherited.setblocking(False)
            port = cls._fromListeningDescriptor(reactor, inherited.fileno(), inherited.family, factory)
        return cast(Self, port)
