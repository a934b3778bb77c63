# SPDX-License-Identifier: Apache-2.0
"""The connection to a VNC server as the relay reads and writes it: plain, or through TLS.

A stream reads into the caller's buffer, so that it has none of its own. A write that is not accepted must be
repeated with the same bytes first: OpenSSL has begun to encrypt them, and does not check what it is given
the second time.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from systemvm.service.openssl_errors import clear_openssl_errors, send_close_notify

#: The clear text of one TLS record.
_RECORD_BYTES = 16 * 1024


class TargetStream(Protocol):
    """A non-blocking connection; it belongs to one relay."""

    @property
    def reading_needs_write(self) -> bool:
        """Whether reading waits until the socket is writable: TLS answers a key update."""

    def fileno(self) -> int: ...

    def read_into(self, buffer: memoryview) -> int:
        """Return how many bytes were received, 0 at the end.

        Raises: BlockingIOError when there is nothing yet, another OSError when the connection is broken.
        """

    def has_pending(self) -> bool:
        """Whether bytes were received that the reactor cannot see."""

    def write(self, data: bytes) -> int:
        """Return how many bytes of `data` were accepted.

        Raises: BlockingIOError when none were; the next write must begin with the same bytes.
        """

    def close(self) -> None: ...


class PlainStream:
    """A TCP or UNIX socket."""

    reading_needs_write = False

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.read_into: Callable[[memoryview], int] = connection.recv_into

    def fileno(self) -> int:
        return self._socket.fileno()

    def has_pending(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        return self._socket.send(data)

    def close(self) -> None:
        self._socket.close()


class TlsStream:
    """A TLS connection after its handshake."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._socket = connection
        self._refused_bytes = 0  # of the last write
        self.reading_needs_write = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer with as many records as were received, so that the browser gets one frame."""
        count = 0
        self.reading_needs_write = False
        while count < len(buffer):
            try:
                received = self._socket.recv_into(buffer[count:])
            except ssl.SSLWantReadError:
                break
            except ssl.SSLWantWriteError:
                self.reading_needs_write = True
                break
            except OSError:
                clear_openssl_errors()
                if count:
                    break  # the next read raises it again
                raise
            if not received:
                return count
            count += received
        if not count:
            raise BlockingIOError
        return count

    def has_pending(self) -> bool:
        return self._socket.pending() > 0

    def write(self, data: bytes) -> int:
        piece = data[: self._refused_bytes or _RECORD_BYTES]
        try:
            sent = self._socket.send(piece)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._refused_bytes = len(piece)
            raise BlockingIOError from None
        except OSError:
            clear_openssl_errors()
            raise
        self._refused_bytes = 0
        return sent

    def close(self) -> None:
        if not self._refused_bytes:
            send_close_notify(self._socket)
        self._socket.close()
