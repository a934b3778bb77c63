# SPDX-License-Identifier: Apache-2.0
"""An endpoint that connects at once, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """What is sent is in `transport`; `protocol` takes the answers."""

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.protocol: Any = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.protocol = protocolFactory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 80))
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)
