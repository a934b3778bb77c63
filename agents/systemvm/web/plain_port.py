# SPDX-License-Identifier: Apache-2.0
"""A public listening port without TLS, behind a proxy that terminates it; with the same limits."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from systemvm.service.connection_limits import source_of_address
from systemvm.web.public_port import PublicPort


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


class PlainPort(PublicPort):
    """Accepts connections."""

    transport = PlainTransport  # type: ignore[assignment]
