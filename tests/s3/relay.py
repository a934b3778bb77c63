# SPDX-License-Identifier: Apache-2.0
"""A connection that breaks, or damages a byte, at a chosen byte of what is sent."""

from __future__ import annotations

import contextlib
import socket
import threading


def relayed(server: socket.socket, *, cut_at: int = -1, flip_at: int = -1) -> socket.socket:
    """Return a connection to `server` that ends at the sent byte `cut_at`, or inverts the byte `flip_at`."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        position = 0
        with contextlib.suppress(OSError):
            while data := bytearray(theirs.recv(65536)):
                if position <= flip_at < position + len(data):
                    data[flip_at - position] ^= 0xFF
                position += len(data)
                if 0 <= cut_at < position:
                    break
                server.sendall(data)
        for each in (server, theirs):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def receive() -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                theirs.sendall(data)
        with contextlib.suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)

    for work in (send, receive):
        threading.Thread(target=work, daemon=True).start()
    return ours
