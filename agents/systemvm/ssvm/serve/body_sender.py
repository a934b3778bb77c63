# SPDX-License-Identifier: Apache-2.0
"""Sends parts of a file over a connection; only worker threads read the file.

A store that does not answer blocks the worker of this transfer, and never the reactor. Without TLS the kernel
copies from the file to the socket (sendfile(2)); with TLS a worker reads one chunk ahead.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.ssvm.serve.byte_ranges import ByteRange
from systemvm.ssvm.serve.response_plan import Segment

CHUNK_BYTES = 512 * 1024
#: A client that takes no chunk for so long has gone.
STALL_TIMEOUT_S = 120.0
_SENDFILE_BYTES = 4 * 1024 * 1024  # per system call: between two of them a cancellation is noticed
#: A client is waited for in the worker, of which every transfer has one; only a slow one by the reactor.
_WRITABLE_WAIT_MS = 250


class FileEndedError(SystemVmError):
    """The file has fewer bytes than it had when the response began."""

    code = FailureCode.WRONG_STATE


@implementer(IPullProducer)
class BodySender:
    """Sends the segments of one response after its headers, then calls `on_end(complete)` once.

    It takes the place of the HTTP channel as the transport's producer, and gives it back at the end. The
    file's descriptor belongs to the sender, which closes it when no worker uses it.
    """

    _log = Logger(namespace="systemvm.ssvm.serve.body_sender")

    def __init__(
        self,
        reactor: Any,
        pool: ThreadPool,
        transport: Any,
        file: int,
        segments: Sequence[Segment],
        on_end: Callable[[bool], None],
        *,
        sendfile: bool,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._transport = transport
        self._file = file
        self._segments = list(segments)
        self._on_end = on_end
        self._channel: Any = None
        self._socket = os.dup(transport.fileno()) if sendfile else -1
        self._stall_timeout_s = stall_timeout_s
        self._stall: IDelayedCall | None = None
        self._cancelled = threading.Event()
        self._is_working = self._is_hungry = self._has_ended = self._sent_headers = False
        self._chunk = b""
        self.sent_bytes = 0

    def start(self, channel: Any) -> None:
        """Begin; the headers must have been written, so that the transport's buffer is not empty."""
        self._channel = channel
        self._transport.unregisterProducer()
        self._restart_stall_timer()
        self._transport.registerProducer(self, False)

    def abort(self) -> None:
        """End the transfer and the connection."""
        if not self._has_ended:
            self._end(False)
            self._transport.abortConnection()

    # IPullProducer

    def resumeProducing(self) -> None:
        """Called when the transport has sent all it had; the first time only registers the producer."""
        if not self._sent_headers:
            self._sent_headers = True
            return
        if self._has_ended:
            return
        self._restart_stall_timer()
        self._is_hungry = True
        self._continue()

    def stopProducing(self) -> None:
        """Called when the connection is lost."""
        self._end(False)

    # -- steps

    def _continue(self) -> None:
        if self._has_ended or self._is_working or not self._is_hungry:
            return
        if self._chunk:
            chunk, self._chunk = self._chunk, b""
            self._write(chunk)
            self._read_ahead()
        elif not self._segments:
            self._end(True)
        elif isinstance(head := self._segments[0], bytes):
            del self._segments[0]
            self._write(head)
        elif self._socket >= 0:
            self._work(self._sent, _send_file, self._socket, self._file, head, self._cancelled)
        else:
            self._read_ahead()

    def _write(self, data: bytes) -> None:
        self._is_hungry = False
        self.sent_bytes += len(data)
        self._transport.write(data)

    def _read_ahead(self) -> None:
        if self._segments and isinstance(head := self._segments[0], ByteRange):
            self._work(self._read, _read_chunk, self._file, head)

    def _work(self, done: Callable[[Any], None], operation: Callable[..., Any], *arguments: Any) -> None:
        self._is_working = True

        def ended(outcome: Any) -> None:
            self._is_working = False
            if self._has_ended:
                self._close()
            elif isinstance(outcome, Failure):
                self._log.failure("file cannot be sent", failure=outcome)
                self.abort()
            else:
                done(outcome)

        deferToThreadPool(self._reactor, self._pool, operation, *arguments).addBoth(ended)

    def _read(self, data: bytes) -> None:
        self._chunk = data
        self._advance(len(data))
        self._continue()

    def _sent(self, count: int) -> None:
        self.sent_bytes += count
        self._advance(count)
        if count:
            self._restart_stall_timer()
        if self._segments and isinstance(self._segments[0], ByteRange):
            # the socket is full: doWrite calls resumeProducing as soon as it is writable
            self._is_hungry = False
            self._transport.startWriting()
        else:
            self._continue()

    def _advance(self, count: int) -> None:
        head = self._segments[0]
        if isinstance(head, ByteRange):
            rest = ByteRange(head.start + count, head.length - count)
            self._segments[:1] = [rest] if rest.length else []

    # -- end

    def _restart_stall_timer(self) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.reset(self._stall_timeout_s)
        else:
            self._stall = self._reactor.callLater(self._stall_timeout_s, self._stalled)

    def _stalled(self) -> None:
        if self._is_working and not self._chunk:
            self._restart_stall_timer()  # the store is late, not the client
        else:
            self.abort()

    def _end(self, complete: bool) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._cancelled.set()
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        if complete:
            self._transport.unregisterProducer()
            self._transport.registerProducer(self._channel, True)
        if not self._is_working:
            self._close()
        self._on_end(complete)

    def _close(self) -> None:
        for descriptor in (self._file, self._socket):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._socket = -1


def _read_chunk(file: int, part: ByteRange) -> bytes:
    data = os.pread(file, min(part.length, CHUNK_BYTES), part.start)
    if not data:
        raise FileEndedError("file ended before its size")
    return data


def _send_file(socket: int, file: int, part: ByteRange, cancelled: threading.Event) -> int:
    """Send until the socket stays full; return how many bytes were sent."""
    sent = 0
    poller = select.poll()
    poller.register(socket, select.POLLOUT)
    while sent < part.length and not cancelled.is_set():
        try:
            size = min(part.length - sent, _SENDFILE_BYTES)
            count = os.sendfile(socket, file, part.start + sent, size)
        except BlockingIOError:
            if not poller.poll(_WRITABLE_WAIT_MS):
                break
            continue
        except OSError:
            if sent:
                break  # the next call reports it
            raise
        if not count:
            raise FileEndedError("file ended before its size")
        sent += count
    return sent
