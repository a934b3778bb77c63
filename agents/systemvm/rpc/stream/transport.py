# SPDX-License-Identifier: Apache-2.0
"""Carries the frames of a peer over a Twisted stream, in bounded memory.

When the other end does not read, frames wait here: notifications can be replaced or dropped, and above
`PAUSE_BYTES` this end stops reading, too, so that a flood of calls cannot become a heap of responses. An end
that does not read for `STALL_S`, or for which more than `MAX_UNSENT_BYTES` wait, is disconnected.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.service import slowness
from systemvm.service.scaled_timer import ScaledTimer

#: IReactorTime with IReactorTCP or IReactorUNIX; mypy has no intersection of interfaces.
Reactor = Any

PAUSE_BYTES = 2 * 1024 * 1024  # two frames of maximum length: both ends can send one at once and still read
MAX_UNSENT_BYTES = 8 * 1024 * 1024  # of all kinds, for an end that does not read
STALL_S = 30.0
CLOSE_TIMEOUT_S = 5.0  # for sending what was written before a close


@implementer(IPushProducer)
class StreamProtocol(Protocol):
    """One connection; a subclass calls `start_peer` when the other end is known."""

    transport: Any  # all transports used here have more than ITransport declares

    def __init__(
        self,
        clock: IReactorTime,
        methods: MethodTable,
        on_peer: Callable[[Peer], None],
        on_lost: Callable[[Peer | None, str], None],
    ) -> None:
        self._clock = clock
        self._methods = methods
        self._on_peer = on_peer
        self._on_lost = on_lost
        self._log = Logger(namespace="systemvm.rpc.stream.transport")
        self.peer: Peer | None = None
        self.refusal: str | None = None
        self._unsent: dict[object, bytes] = {}
        self._unsent_bytes = 0
        self._stalled = False
        self._reading_paused = False
        self._stall: ScaledTimer | None = None
        self._close_timer: IDelayedCall | None = None
        self._is_lost = False

    def start_peer(self, caller: Caller) -> None:
        """Begin to read frames: the other end is known."""
        self.peer = Peer(caller, self._methods, self._clock, self, self._call_later)
        self.transport.registerProducer(self, True)
        self._on_peer(self.peer)

    def _call_later(self, begin: Callable[[], None]) -> None:
        self._clock.callLater(0, begin)

    def refuse(self, why: str) -> None:
        """Abort the connection of an end that is not admitted; none of its bytes is parsed."""
        self.refusal = why
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.peer is not None and not self.peer.closed:
            self.peer.data_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_lost = True
        for timer in (self._stall, self._close_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._unsent.clear()
        why = self.refusal or describe_failure(reason)
        if self.peer is not None:
            self.peer.connection_lost(why)
        self._on_lost(self.peer, why)

    # ---- Channel, for the peer -----------------------------------------------------------------------------

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        if self._is_lost or self._close_timer is not None:
            return
        if not self._stalled:
            self.transport.write(line)
            return
        if may_drop and self._unsent_bytes + len(line) > PAUSE_BYTES:
            return
        key: object = object() if replaces is None else replaces
        self._unsent_bytes += len(line) - len(self._unsent.pop(key, b""))
        if self._unsent_bytes > MAX_UNSENT_BYTES:
            self._unsent.clear()
            self._unsent_bytes = 0
            self._abort(f"the other end does not read: more than {MAX_UNSENT_BYTES} bytes wait for it")
            return
        self._unsent[key] = line
        self._pause_or_resume_reading()

    def disconnect(self, why: str) -> None:
        if self._is_lost or self._close_timer is not None:
            return
        self.refusal = why
        self._close_timer = self._clock.callLater(CLOSE_TIMEOUT_S, self.transport.abortConnection)
        self._unsent.clear()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # ---- IPushProducer, for the transport below ------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._stalled = True
        if self._stall is None:
            scale = slowness.timeout_scale if self.peer is None else self.peer.timeout_scale
            self._stall = ScaledTimer(self._clock, STALL_S, self._abort_stalled, scale)

    def resumeProducing(self) -> None:
        self._stalled = False
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._stall = None
        while self._unsent and not self._stalled:
            line = self._unsent.pop(next(iter(self._unsent)))
            self._unsent_bytes -= len(line)
            self.transport.write(line)  # can pause us again
        self._pause_or_resume_reading()

    def stopProducing(self) -> None:
        """The transport below is closing; connectionLost follows."""

    def _pause_or_resume_reading(self) -> None:
        too_much = self._unsent_bytes > PAUSE_BYTES
        if too_much and not self._reading_paused:
            self._reading_paused = True
            self.transport.pauseProducing()
        elif self._reading_paused and not too_much:
            self._reading_paused = False
            self.transport.resumeProducing()

    def _abort_stalled(self) -> None:
        waited_s = STALL_S if self._stall is None else self._stall.waited_s
        self._stall = None
        self._abort(f"the other end has not read for {waited_s:.0f} s")

    def _abort(self, why: str) -> None:
        """Close without sending what waits, which would wait for ever."""
        if self.refusal is None:
            self.refusal = why
        self.transport.abortConnection()


def describe_failure(reason: Failure) -> str:
    """Return one line on why a connection ended; of a list of OpenSSL errors, the last."""
    error = reason.value
    details = error.args[0] if error is not None and error.args else ""
    if isinstance(details, list) and details and isinstance(details[-1], tuple):
        return "TLS: " + str(details[-1][-1])
    return str(reason.getErrorMessage()) or type(error).__name__


def set_keepalive(transport: Any) -> None:
    """Have the kernel detect a dead host, in whichever direction the next byte would go."""
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle: socket.socket = transport.getHandle()
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50_000)  # ms
