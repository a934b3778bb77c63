# SPDX-License-Identifier: Apache-2.0
"""Two ends of a TLS connection in one process, both non-blocking, after their handshake."""

from __future__ import annotations

import socket
import ssl
from functools import cache

import trustme


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    ca = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.configure_trust(client)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    return client, server


def tls_pair() -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Return the client's end and the server's."""
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
    client, server = _contexts()
    ours = client.wrap_socket(near, server_hostname="127.0.0.1", do_handshake_on_connect=False)
    theirs = server.wrap_socket(far, server_side=True, do_handshake_on_connect=False)
    waiting = [ours, theirs]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return ours, theirs
