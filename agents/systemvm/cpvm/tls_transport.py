# SPDX-License-Identifier: Apache-2.0
"""A TCP transport that owns a TLS socket, for pages and then, on the same connection, for a console's screen.

Twisted's own TLS copies every byte through memory buffers and costs twice the CPU; here `ssl.SSLSocket` reads
and writes the descriptor itself. Three of its ways shape this module:

* A send goes out whole or raises; after SSLWantWriteError OpenSSL wants *the same bytes* again and does not
  check: others of the same length are accepted and reach the browser. So what was refused is **sealed**:
  copied at once, and offered again, unchanged, before anything else.
* Clear text may wait inside OpenSSL, where no epoll sees it. So reads go on until SSLWantReadError, and a
  transport that resumes looks at `pending()`.
* A non-blocking `unwrap` sends close_notify and then raises; it is never waited for.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

from twisted.internet import error, main, tcp
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.service.connection_limits import Bounds, ConnectionLimits, source_of_address

HANDSHAKE_DEADLINE_S = 10.0
#: A browser loads the page over up to six connections; a hundred leave room for an office behind one address.
#: Viewers, and viewers of a session, are bounded by the front, which can tell them so.
BOUNDS = Bounds(pending=800, pending_of_source=100, of_owner=100)

#: One TLS record of clear text.
_RECORD_BYTES = 16 * 1024
#: Records that one wake-up may read before other connections get their turn.
_RECORDS_PER_TURN = 16
#: What may queue behind a sealed frame: an HTTP answer's tail, some control frames, the last words.
_QUEUE_LIMIT_BYTES = 256 * 1024

_T = TypeVar("_T")


class Receiver(Protocol):
    """Who takes over a connection from HTTP."""

    def received(self, data: bytes) -> None: ...

    def drained(self) -> None:
        """Nothing waits to be sent any more."""

    def lost(self, reason: Failure) -> None: ...


@implementer(ISSLTransport)
class TlsServer(tcp.Server):
    """The server's end of one TLS connection; its protocol sees clear text.

    Twisted's `TLS` attribute stays unset: it would send writes through a TLS layer that is not there.
    """

    log = Logger()
    reactor: Any
    SEND_LIMIT = 64 * 1024

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        port: TlsPort,
        sessionno: int,
        reactor: Any,
    ) -> None:
        self._port = port
        self._ready = False
        self._paused = False
        self._sealed = b""
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._receiver: Receiver | None = None
        self._kick_call: IDelayedCall | None = None
        wrapped: ssl.SSLSocket | None = None
        try:
            wrapped = port.context().wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        except (OSError, ValueError):
            self.log.debug("connection lost before its handshake")
        super().__init__(wrapped or sock, protocol, client, port, sessionno, reactor)
        self._slot = port.limits.admit(source_of_address(str(client[0])), self._make_room)
        self._deadline: IDelayedCall = reactor.callLater(port.handshake_deadline_s, self._too_slow)
        if wrapped is None:
            self.abortConnection()

    # -- handshake

    def _too_slow(self) -> None:
        self.log.debug("TLS handshake took too long, {peer} dropped", peer=self.client[0])
        self.abortConnection()

    def _make_room(self) -> None:
        self.log.debug("{peer} has no session and makes room for others", peer=self.client[0])
        self.abortConnection()

    def own(self, owner: str) -> None:
        """It shows a screen now: its place is its own until it ends."""
        self._slot.own(owner)

    def _shake(self) -> BaseException | None:
        def attempt() -> bool:
            self._tls.do_handshake()
            return True

        outcome = self._attempt(attempt)
        if outcome is None or isinstance(outcome, Exception):
            return outcome
        self._ready = True
        self._deadline.cancel()
        self._slot.complete_handshake()
        self.stopWriting()
        if self.dataBuffer or self._tempDataBuffer:
            self.startWriting()
        return self.doRead()

    @property
    def _tls(self) -> ssl.SSLSocket:
        return cast(ssl.SSLSocket, self.socket)

    def _attempt(self, operation: Callable[..., _T], *arguments: Any) -> _T | Exception | None:
        """The operation's result, None when the socket must be waited for, or the end as an exception."""
        try:
            return operation(*arguments)
        except ssl.SSLWantReadError:
            if not self._ready:
                self.stopWriting()  # a socket is almost always writable: epoll would spin
            return None
        except ssl.SSLWantWriteError:
            self.startWriting()
            return None
        except ssl.SSLZeroReturnError:
            return main.CONNECTION_DONE
        except (ssl.SSLError, OSError) as broken:
            if not self._ready:
                self.log.debug("TLS handshake failed: {reason}", reason=getattr(broken, "reason", None))
            return main.CONNECTION_LOST

    # -- reading

    def doRead(self) -> BaseException | None:  # type: ignore[override]
        if not self._ready:
            return self._shake()
        for _ in range(_RECORDS_PER_TURN):
            data = self._attempt(self._tls.recv, _RECORD_BYTES)
            if data is None or isinstance(data, Exception):
                return data
            if not data:
                return main.CONNECTION_DONE
            self._slot.touch()
            if self._receiver is not None:
                self._receiver.received(data)
            else:
                self.protocol.dataReceived(data)
            if self.disconnected or self._paused or self._aborting or not hasattr(self, "socket"):
                return None
        self._look_at_pending()
        return None

    def stopReading(self) -> None:
        self._paused = True
        super().stopReading()

    def startReading(self) -> None:
        self._paused = False
        super().startReading()
        if self._ready:
            self._look_at_pending()

    def _look_at_pending(self) -> None:
        if self._kick_call is None and hasattr(self, "socket") and self._tls.pending():
            self._kick_call = self.reactor.callLater(0, self._kick)

    def _kick(self) -> None:
        self._kick_call = None
        if self._paused or self._aborting or not hasattr(self, "socket"):
            return
        ended = self.doRead()
        if ended is not None:
            self.readConnectionLost(Failure(ended))

    def pending_bytes(self) -> int:
        """Clear text that came and was not yet read."""
        return self._tls.pending()

    # -- writing

    def doWrite(self) -> Any:
        if not self._ready:
            return self._shake()
        return self._flush() if self._receiver is not None else super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """HTTP's writes: `data` begins with the sealed bytes as long as there are any."""
        piece = self._sealed or bytes(memoryview(data)[: self.SEND_LIMIT])
        if not piece:
            return 0
        sent = self._attempt(self._tls.send, piece)
        self._sealed = piece if sent is None else b""
        return 0 if sent is None else sent

    @property
    def stalled(self) -> bool:
        """Whether something waits to be sent; what is sent now would wait behind it."""
        return bool(self._sealed or self._queue)

    def send(self, frame: bytes | memoryview) -> bool:
        """After the upgrade: send a frame whole; False when it waits, and `drained` will be called.

        A memoryview may be of a shared buffer: what cannot go out is copied before this returns.
        """
        if self.stalled:
            self._queue.append(bytes(frame))
            self._queued_bytes += len(frame)
            if self._queued_bytes > _QUEUE_LIMIT_BYTES:
                self.abortConnection()
            return False
        sent = self._attempt(self._tls.send, frame)
        if sent is None:
            self._sealed = bytes(frame)
            return False
        if isinstance(sent, Exception):
            # Not from in here: the caller is in the middle of its own work with this transport.
            self.abortConnection()
            return False
        return True

    def _flush(self) -> BaseException | None:
        while self.stalled:
            if not self._sealed:
                self._sealed = b"".join(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
            sent = self._attempt(self._tls.send, self._sealed)
            if sent is None or isinstance(sent, Exception):
                return sent
            self._sealed = b""
        self.stopWriting()
        if self.disconnecting:
            return main.CONNECTION_DONE
        if self._receiver is not None:
            self._receiver.drained()
        return None

    # -- the upgrade, and the end

    def take_over(self, receiver: Receiver, head: bytes) -> None:
        """Give the connection to `receiver`, after HTTP's unsent bytes and the `head` of the answer.

        The HTTP channel must have been unregistered as producer and its timeout ended.
        """
        unsent = bytes(self.dataBuffer)[self.offset :] + b"".join(self._tempDataBuffer)
        self.dataBuffer, self.offset = b"", 0
        self._tempDataBuffer, self._tempDataLen = [], 0
        unsent = unsent[len(self._sealed) :] + head
        self._receiver = receiver
        if self._sealed:
            self._queue.append(unsent)
            self._queued_bytes += len(unsent)
        else:
            self.stopWriting()
            self.send(unsent)
        self.startReading()

    def loseConnection(self) -> None:
        if not self._ready:
            self.abortConnection()  # nothing can be said before the handshake
            return
        super().loseConnection()

    def _closeSocket(self, orderly: bool) -> None:
        if orderly and self._ready and not self.stalled:
            with suppress(OSError, ValueError):  # sent, and the peer's is not waited for
                self._tls.unwrap()
        super()._closeSocket(orderly)

    def connectionLost(self, reason: Failure) -> None:
        if not hasattr(self, "socket"):
            return
        if self._deadline.active():
            self._deadline.cancel()
        if self._kick_call is not None:
            self._kick_call.cancel()
            self._kick_call = None
        super().connectionLost(reason)
        self._slot.release()
        self._sealed = b""
        self._queue.clear()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(reason)

    def getPeerCertificate(self) -> None:
        """Browsers show none."""
        return


class TlsPort(tcp.Port):
    """Listens, and makes a `TlsServer` of every connection, with the context that is current then."""

    transport = TlsServer  # type: ignore[assignment]

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
        """Of a listening socket that systemd made; the descriptor is copied and stays the caller's."""
        with socket.socket(fileno=socket.dup(descriptor)) as inherited:
            inherited.setblocking(False)
            port = cls._fromListeningDescriptor(reactor, inherited.fileno(), inherited.family, factory)
        return cast(TlsPort, port)

    @classmethod
    def bind(cls, reactor: Any, interface: str, number: int, factory: IProtocolFactory) -> TlsPort:
        return cls(number, factory, interface=interface, reactor=reactor)


def _no_context() -> ssl.SSLContext:
    raise error.CannotListenError("", 0, OSError("no certificate is set up"))
