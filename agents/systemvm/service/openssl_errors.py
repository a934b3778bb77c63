# SPDX-License-Identifier: Apache-2.0
"""Keeps one TLS connection's errors from the others of its thread.

OpenSSL keeps errors in a queue for each thread and decides by it whether a call has failed or would only have
to wait. From 3.13 on, Python leaves a system error there, such as EPIPE, when it raises it as OSError
(CPython, Modules/_ssl.c, PySSL_SetError). Until something clears the queue, every connection of the thread
that has nothing to read then raises that error: one browser that leaves would end the consoles of all others.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

_unused = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def clear_openssl_errors() -> None:
    """Clear the thread's queue; to be called after each OSError of an `ssl.SSLSocket`.

    Python has no call for it, but clears the queue when a cipher's name is unknown.
    """
    with suppress(ssl.SSLError):
        _unused.set_ciphers("unknown")


def send_close_notify(connection: ssl.SSLSocket) -> None:
    """Tell the peer of a non-blocking connection that no more comes, if the peer is still there.

    `unwrap` raises after it has sent the alert, because the peer's is not awaited.
    """
    try:
        connection.unwrap()
    except (OSError, ValueError):
        clear_openssl_errors()
