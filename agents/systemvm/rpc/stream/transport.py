# SPDX-License-Identifier: Apache-2.0
"""Carries a peer's frames over a Twisted stream, in bounded memory.

When the other end does not read, frames wait here: notifications may be replaced or dropped, and past
`PAUSE_BYTES` this end stops reading too, so that a flood of calls cannot turn into a heap of answers. An end
that does not read for `STALL_S` is cut off, and so is one for which more than `MAX_UNSENT_BYTES` wait.
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

#: IReactorTime with IReactorTCP or IReactorUNIX; mypy knows no intersection of interfaces.
Reactor = Any

PAUSE_BYTES = 2 * 1024 * 1024  # two frames of the longest kind: both ends may send one at once and still read
MAX_UNSENT_BYTES = 8 * 1024 * 1024  # what may wait for an end that does not read, whatever its kind
STALL_S = 30.0
CLOSE_TIMEOUT_S = 5.0  # how long what was written before a close may take to leave


@implementer(IPushProducer)
class StreamProtocol(Protocol):
    """One connection; subclasses say when the other end is known and call `start_peer`."""

    transport: Any  # of the kinds this is used on, each has more than ITransport says

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
        self._goodbye: IDelayedCall | None = None
        self._gone = False

    def start_peer(self, caller: Caller) -> None:
        """The other end is known: from here on its frames are read."""
        self.peer = Peer(caller, self._methods, self._clock, self, self._in_a_later_turn)
        self.transport.registerProducer(self, True)
        self._on_peer(self.peer)

    def _in_a_later_turn(self, begin: Callable[[], None]) -> None:
        self._clock.callLater(0, begin)

    def refuse(self, why: str) -> None:
        """The other end is not who it should be: not one of its bytes is parsed."""
        self.refusal = why
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.peer is not None and not self.peer.closed:
            self.peer.data_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        for timer in (self._stall, self._goodbye):
            if timer is not None and timer.active():
                timer.cancel()
        self._unsent.clear()
        why = self.refusal or describe_failure(reason)
        if self.peer is not None:
            self.peer.connection_lost(why)
        self._on_lost(self.peer, why)

    # Channel, for the peer.

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        if self._gone or self._goodbye is not None:
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
        if self._gone or self._goodbye is not None:
            return
        self.refusal = why
        self._goodbye = self._clock.callLater(CLOSE_TIMEOUT_S, self.transport.abortConnection)
        self._unsent.clear()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # IPushProducer, for the transport below.

    def pauseProducing(self) -> None:
        self._stalled = True
        if self._stall is None:
            scale = slowness.timeout_scale if self.peer is None else self.peer.timeout_scale
            self._stall = ScaledTimer(self._clock, STALL_S, self._cut_off, scale)

    def resumeProducing(self) -> None:
        self._stalled = False
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._stall = None
        while self._unsent and not self._stalled:
            line = self._unsent.pop(next(iter(self._unsent)))
            self._unsent_bytes -= len(line)
            self.transport.write(line)  # may pause us again
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

    def _cut_off(self) -> None:
        waited_s = STALL_S if self._stall is None else self._stall.waited_s
        self._stall = None
        self._abort(f"the other end has not read for {waited_s:.0f} s")

    def _abort(self, why: str) -> None:
        """What waits for this end would wait for ever: no goodbye."""
        if self.refusal is None:
            self.refusal = why
        self.transport.abortConnection()


def describe_failure(reason: Failure) -> str:
    """One line on why a connection ended; OpenSSL's lists of errors become words."""
    error = reason.value
    details = error.args[0] if error is not None and error.args else ""
    if isinstance(details, list) and details and isinstance(details[-1], tuple):
        return "TLS: " + str(details[-1][-1])
    return str(reason.getErrorMessage()) or type(error).__name__


def set_keepalive(transport: Any) -> None:
    """Let the kernel notice a host that is gone, whichever way the next byte would go."""
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle: socket.socket = transport.getHandle()
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50_000)  # ms
