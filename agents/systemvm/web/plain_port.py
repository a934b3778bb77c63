# SPDX-License-Identifier: Apache-2.0
"""A public listening port without TLS, behind a proxy that terminates it; with the limits of `TlsPort`."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from systemvm.service.connection_limits import ConnectionLimits, source_of_address
from systemvm.web.tls_port import BOUNDS


class PlainTransport(tcp.Server):
    """The server's end of one connection, counted by its source."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        port: PlainPort,
        sessionno: int,
        reactor: Any,
    ) -> None:
        super().__init__(sock, protocol, client, port, sessionno, reactor)
        self._slot = port.limits.admit(source_of_address(str(client[0])), self.abortConnection)
        self._slot.complete_handshake()

    def assign_owner(self, owner: str) -> None:
        """Count the connection for `owner`: it is no longer closed to make room for others."""
        self._slot.own(owner)

    def connectionLost(self, reason: Failure) -> None:
        self._slot.release()
        super().connectionLost(reason)


class PlainPort(tcp.Port):
    """Accepts connections; `limits` bound their number."""

    transport = PlainTransport  # type: ignore[assignment]

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
    def adopt(cls, reactor: Any, descriptor: int, factory: IProtocolFactory) -> PlainPort:
        """Use a copy of a listening descriptor that systemd passed; the original stays the caller's."""
        with socket.socket(fileno=socket.dup(descriptor)) as inherited:
            inherited.setblocking(False)
            port = cls._fromListeningDescriptor(reactor, inherited.fileno(), inherited.family, factory)
        return cast(PlainPort, port)
