# SPDX-License-Identifier: Apache-2.0
"""Limits the page's connections by source, so that idle ones do not use up the daemon's descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from systemvm.service.connection_limits import Bounds, ConnectionLimits, Slot, source_of_address

#: A browser opens up to six; one address can be an office, or a proxy that is not configured as one.
BOUNDS = Bounds(pending=512, pending_of_source=128, of_owner=1)


class _BoundedConnection(ProtocolWrapper):
    factory: BoundedListener
    _slot: Slot | None = None

    def makeConnection(self, transport: Any) -> None:
        source = source_of_address(str(getattr(transport.getPeer(), "host", "")))
        self._slot = self.factory.limits.admit(source, transport.abortConnection)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self._mark_active()
        super().dataReceived(data)

    def write(self, data: bytes) -> None:
        self._mark_active()
        super().write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._slot is not None:
            self._slot.release()
        super().connectionLost(reason)

    def _mark_active(self) -> None:
        if self._slot is not None:
            self._slot.complete_handshake()
            self._slot.touch()


class BoundedListener(WrappingFactory):
    """A factory with a limit on its connections; `is_proxy` returns whether many browsers share a source."""

    protocol = _BoundedConnection
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, is_proxy: Callable[[str], bool]) -> None:
        super().__init__(wrapped)
        self.limits = ConnectionLimits(BOUNDS, is_proxy)
