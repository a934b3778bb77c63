# SPDX-License-Identifier: Apache-2.0
"""A connected socket under TLS, of which one read returns all records that have arrived.

`ssl.SSLSocket` makes two system calls for a record of 16 KiB and returns it alone (OpenSSL without
SSL_CTX_set_read_ahead, which Python does not offer). That made a download 1.2 times as
expensive.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from systemvm.ssvm.limits import KIB

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_RECEIVE_BYTES = 256 * KIB
#: How versions of Python report an end without close_notify.
ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class TlsConnection(socket.socket):
    """Takes the place of a connected, blocking socket; its time-out is that of a whole read or handshake.

    It has what `http.client` needs: `recv_into` (through `makefile`), `sendall`, `close`.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Take the socket over and do the handshake.

        Raises: OSError (ssl.SSLError, TimeoutError) when it fails, and the socket is closed; ValueError when
        the host's name cannot be one.
        """
        timeout_s = connection.gettimeout()
        super().__init__(connection.family, connection.type, connection.proto, connection.detach())
        self.settimeout(timeout_s)
        self._received = memoryview(bytearray(_RECEIVE_BYTES))
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
            self._shake_hands()
        except BaseException:
            self.close()
            raise

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Fill the buffer with what has arrived, at least a byte; return 0 at the end of the connection.

        Raises: OSError (ssl.SSLError, TimeoutError).
        """
        view = memoryview(buffer).cast("B")
        view = view[:nbytes] if nbytes else view
        deadline = _Deadline(self.gettimeout())
        while True:
            count = self._decrypt(view)
            with suppress(OSError):  # a peer that only sends may have closed its other half
                self._flush()  # the answer to a key update, an alert
            if count is not None:
                return count
            self._receive(deadline)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer)])

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send all of the data.

        Raises: OSError (ssl.SSLError, TimeoutError).
        """
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                sent += self._tls.write(view[sent:])
        self._flush()

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        self.sendall(data)
        return memoryview(data).nbytes

    def _shake_hands(self) -> None:
        deadline = _Deadline(self.gettimeout())
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive(deadline)
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # the alert that says why
                raise
            else:
                self._flush()
                return

    def _decrypt(self, view: memoryview) -> int | None:
        """Return the number of bytes, 0 at the end, None when no record is complete."""
        filled = 0
        try:
            while filled < len(view):
                count = cast(int, self._tls.read(len(view) - filled, view[filled:]))
                if not count:
                    break  # close_notify
                filled += count
        except ssl.SSLWantReadError:
            return filled or None
        except ENDS:
            pass  # without close_notify; whoever knows a length compares it
        return filled

    def _receive(self, deadline: _Deadline) -> None:
        timeout_s = self.gettimeout()
        self.settimeout(deadline.left_s())
        try:
            count = super().recv_into(self._received)
        finally:
            self.settimeout(timeout_s)
        if count:
            self._incoming.write(self._received[:count])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().sendall(self._outgoing.read())


class _Deadline:
    """The end of a time-out that several calls share."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Return the rest.

        Raises: TimeoutError when there is none.
        """
        if self._end_s is None:
            return None
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s
