# SPDX-License-Identifier: Apache-2.0
"""A TCP transport that owns a TLS socket, for pages and then, on the same connection, for a console.

Twisted's own TLS copies every byte through memory buffers and costs twice the CPU; here `ssl.SSLSocket` reads
and writes the descriptor itself. Three of its properties shape this module:

* A send succeeds completely or raises. After SSLWantWriteError OpenSSL requires *the same bytes* again and
  does not check them: other bytes of the same length are accepted and reach the browser. So a refused write
  becomes the **pending write**: it is copied at once and repeated, unchanged, before anything else is sent.
* Decrypted bytes can wait inside OpenSSL, where epoll does not see them. So a wake-up that stops before
  SSLWantReadError, and a transport that resumes reading, check `pending()`.
* An error of one connection must not end others: see `openssl_errors`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

from twisted.internet import main, tcp
from twisted.internet.interfaces import IDelayedCall, IProtocol, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.service.connection_limits import ConnectionLimits, source_of_address
from systemvm.service.openssl_errors import clear_openssl_errors, send_close_notify

#: The clear text of one TLS record.
_RECORD_BYTES = 16 * 1024
#: Records that one wake-up reads before other connections are served.
_RECORDS_PER_WAKEUP = 16
#: The most of a ClientHello that is looked at; those of ACME servers are shorter.
_HELLO_BYTES = 4096
#: After so few bytes, such as those of a key, more are unlikely.
_KEY_BYTES = 256
#: Where they are read to, by one transport after another: a protocol is called once for all of them, because
#: a call of HTTP's parser costs more than decrypting a record.
_READ_BUFFER = memoryview(bytearray(_RECORDS_PER_WAKEUP * _RECORD_BYTES))
#: The limit behind a pending write: the rest of an HTTP response, control frames and a close frame.
_QUEUE_LIMIT_BYTES = 256 * 1024

_T = TypeVar("_T")


class Receiver(Protocol):
    """Takes over a connection from HTTP."""

    def received(self, data: bytes) -> None: ...

    def drained(self) -> None:
        """Called when nothing waits to be sent any more."""

    def lost(self, reason: Failure) -> None: ...


class Listener(Protocol):
    """The part of the listening port that a transport uses."""

    context: Callable[[], ssl.SSLContext]
    challenge: Callable[[bytes], ssl.SSLContext | None] | None
    handshake_deadline_s: float
    on_handshake: Callable[[float], None]
    limits: ConnectionLimits


@implementer(ISSLTransport)
class TlsTransport(tcp.Server):
    """The server's end of one TLS connection; its protocol receives clear text.

    Twisted's `TLS` attribute stays unset: it would pass writes to a TLS layer that does not exist here.
    """

    #: Twisted's own attributes stay in the instance's dict. With ours it would have more than 30 entries, and
    #: take 2 kB for each of a thousand sessions.
    __slots__ = (
        "_deadline",
        "_end",
        "_paused",
        "_pending_write",
        "_queue",
        "_queued_bytes",
        "_read_pending_call",
        "_ready",
        "_receiver",
        "_slot",
    )

    log = Logger()
    reactor: Any
    SEND_LIMIT = 64 * 1024

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        port: Listener,
        sessionno: int,
        reactor: Any,
    ) -> None:
        self._ready = False
        self._paused = False
        self._pending_write = b""
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._receiver: Receiver | None = None
        self._read_pending_call: IDelayedCall | None = None
        self._end: Exception | None = None  # came behind data of a protocol that has paused
        wrapped: ssl.SSLSocket | None = None
        try:
            wrapped = port.context().wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        except (OSError, ValueError):
            self.log.debug("connection lost before its handshake")
        super().__init__(wrapped or sock, protocol, client, port, sessionno, reactor)  # type: ignore[arg-type]
        self._slot = port.limits.admit(source_of_address(str(client[0])), self._evict)
        self._deadline: IDelayedCall | None = reactor.callLater(
            port.handshake_deadline_s, self._handshake_timed_out
        )
        if wrapped is None:
            self.abortConnection()

    # -- handshake

    def _handshake_timed_out(self) -> None:
        self._deadline = None
        self.log.debug("TLS handshake of {peer} timed out", peer=self.client[0])
        self.abortConnection()

    def _evict(self) -> None:
        self.log.debug("{peer} has no session, closed to make room for others", peer=self.client[0])
        self.abortConnection()

    def assign_owner(self, owner: str) -> None:
        """Count the connection for `owner`: it is no longer closed to make room for others."""
        self._slot.own(owner)

    def _do_handshake(self) -> BaseException | None:
        challenge = cast(Listener, self.server).challenge
        if challenge is not None:
            self._choose_context(challenge)

        def attempt() -> bool:
            self._tls.do_handshake()
            return True

        outcome = self._attempt(attempt)
        if outcome is None or isinstance(outcome, Exception):
            return outcome
        self._ready = True
        port = cast(Listener, self.server)
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            begun_s = deadline.getTime() - port.handshake_deadline_s
            port.on_handshake(self.reactor.seconds() - begun_s)
            deadline.cancel()
        self._slot.complete_handshake()
        self.stopWriting()
        if self.dataBuffer or self._tempDataBuffer:
            self.startWriting()
        return self.doRead()

    def _choose_context(self, challenge: Callable[[bytes], ssl.SSLContext | None]) -> None:
        """Let `challenge` look at what has arrived before OpenSSL reads it, which has no hook for ALPN."""
        with suppress(OSError):
            # the method of the plain socket: that of SSLSocket takes no flags
            chosen = challenge(socket.socket.recv(self._tls, _HELLO_BYTES, socket.MSG_PEEK))
            if chosen is not None:
                self._tls.context = chosen

    @property
    def _tls(self) -> ssl.SSLSocket:
        return cast(ssl.SSLSocket, self.socket)

    def _attempt(self, operation: Callable[..., _T], *arguments: Any) -> _T | Exception | None:
        """Return the operation's result, None when the socket is not ready, or why the connection ended."""
        try:
            return operation(*arguments)
        except ssl.SSLWantReadError:
            if not self._ready:
                self.stopWriting()  # a socket is almost always writable, so that epoll would return at once
            return None
        except ssl.SSLWantWriteError:
            self.startWriting()
            return None
        except ssl.SSLZeroReturnError:
            return main.CONNECTION_DONE
        except (ssl.SSLError, OSError) as broken:
            clear_openssl_errors()
            if not self._ready:
                self.log.debug("TLS handshake failed: {reason}", reason=getattr(broken, "reason", None))
            return main.CONNECTION_LOST

    # -- reading

    def doRead(self) -> BaseException | None:  # type: ignore[override]
        if not self._ready:
            return self._do_handshake()
        ended = self._end
        if ended is None:
            filled, ended = self._read_records()
            if filled:
                self._slot.touch()
                data = bytes(_READ_BUFFER[:filled])
                if self._receiver is not None:
                    self._receiver.received(data)
                else:
                    self.protocol.dataReceived(data)
                if self.disconnected or self._aborting or not hasattr(self, "socket"):
                    return None
                if self._paused:
                    self._end = ended
                    return None
        if ended is None:
            self._schedule_pending_read()
        return ended

    def _read_records(self) -> tuple[int, Exception | None]:
        """Read what has come, up to a limit; return how many bytes, and the end if it has come, too."""
        filled = 0
        for _ in range(_RECORDS_PER_WAKEUP):
            count = self._attempt(self._tls.recv_into, _READ_BUFFER[filled : filled + _RECORD_BYTES])
            if isinstance(count, Exception):
                return filled, count
            if count is None:
                break
            if count == 0:
                return filled, main.CONNECTION_DONE
            filled += count
            if filled <= _KEY_BYTES and not self._tls.pending():
                # OpenSSL does not read ahead: what follows is still in the socket and wakes epoll. So a key
                # costs one call and no exception.
                break
        return filled, None

    def stopReading(self) -> None:
        self._paused = True
        super().stopReading()

    def startReading(self) -> None:
        self._paused = False
        super().startReading()
        if self._ready:
            self._schedule_pending_read()

    def _schedule_pending_read(self) -> None:
        if self._read_pending_call is not None or not hasattr(self, "socket"):
            return
        if self._end is not None or self._tls.pending():
            self._read_pending_call = self.reactor.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        self._read_pending_call = None
        if self._paused or self._aborting or not hasattr(self, "socket"):
            return
        ended = self.doRead()
        if ended is not None:
            self.readConnectionLost(Failure(ended))

    def pending_bytes(self) -> int:
        """Return how many decrypted bytes were received but not yet read."""
        return self._tls.pending()

    # -- writing

    def doWrite(self) -> Any:
        if not self._ready:
            return self._do_handshake()
        return self._flush() if self._receiver is not None else super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """Write for HTTP; `data` begins with the pending write while there is one."""
        piece = self._pending_write or bytes(memoryview(data)[: self.SEND_LIMIT])
        if not piece:
            return 0
        sent = self._attempt(self._tls.send, piece)
        self._pending_write = piece if sent is None else b""
        return 0 if sent is None else sent

    @property
    def is_blocked(self) -> bool:
        """Whether data waits to be sent, so that a new frame would be queued behind it."""
        return bool(self._pending_write or self._queue)

    def send(self, frame: bytes | memoryview) -> bool:
        """Send a whole frame after the upgrade; return False when it waits and `drained` will be called.

        A memoryview may refer to a shared buffer: a frame that waits is copied before this returns.
        """
        if self.is_blocked:
            self._queue.append(bytes(frame))
            self._queued_bytes += len(frame)
            if self._queued_bytes > _QUEUE_LIMIT_BYTES:
                self.abortConnection()
            return False
        is_long = len(frame) > _RECORD_BYTES
        if is_long:
            self._cork(True)
        sent = self._attempt(self._tls.send, frame)
        if is_long:
            self._cork(False)
        if sent is None:
            self._pending_write = bytes(frame)
            return False
        if isinstance(sent, Exception):
            # abortConnection reports the loss later: the caller is still using this transport.
            self.abortConnection()
            return False
        return True

    def _cork(self, holds: bool) -> None:
        """Have the kernel send full segments: OpenSSL writes each record by itself, and each would be one."""
        self._tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, holds)

    def _flush(self) -> BaseException | None:
        while self.is_blocked:
            if not self._pending_write:
                self._pending_write = b"".join(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
            sent = self._attempt(self._tls.send, self._pending_write)
            if sent is None or isinstance(sent, Exception):
                return sent
            self._pending_write = b""
        self.stopWriting()
        if self.disconnecting:
            return main.CONNECTION_DONE
        if self._receiver is not None:
            self._receiver.drained()
        return None

    # -- upgrade and end

    def take_over(self, receiver: Receiver, head: bytes) -> None:
        """Pass the connection to `receiver`, after HTTP's unsent bytes and the response's `head`.

        The HTTP channel must have been unregistered as producer and its timeout ended.
        """
        unsent = bytes(self.dataBuffer)[self.offset :] + b"".join(self._tempDataBuffer)
        self.dataBuffer, self.offset = b"", 0
        self._tempDataBuffer, self._tempDataLen = [], 0
        unsent = unsent[len(self._pending_write) :] + head
        self._receiver = receiver
        if self._pending_write:
            self._queue.append(unsent)
            self._queued_bytes += len(unsent)
        else:
            self.stopWriting()
            self.send(unsent)
        self.startReading()

    def loseConnection(self) -> None:
        if not self._ready:
            self.abortConnection()  # close_notify is not possible before the handshake
            return
        super().loseConnection()

    def _closeSocket(self, orderly: bool) -> None:
        if orderly and self._ready and not self.is_blocked:
            send_close_notify(self._tls)
        super()._closeSocket(orderly)

    def connectionLost(self, reason: Failure) -> None:
        if not hasattr(self, "socket"):
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._read_pending_call is not None:
            self._read_pending_call.cancel()
            self._read_pending_call = None
        super().connectionLost(reason)
        self._slot.release()
        self._pending_write = b""
        self._queue.clear()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(reason)

    def getPeerCertificate(self) -> None:
        """Return None: browsers present no certificate."""
        return
