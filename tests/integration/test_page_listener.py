# SPDX-License-Identifier: Apache-2.0
"""The page's listener with silent connections, in clear and with TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.static import Data

from systemvm.management.api.site import ManagementSite
from systemvm.management.config import PageConfig
from systemvm.management.page.bounded_listener import BOUNDS
from systemvm.management.page.listener import PageCertificate, listen
from systemvm.management.pki.public import PublicAuthority

EXTRA = 50


@contextlib.contextmanager
def connections(port: int) -> Iterator[list[socket.socket]]:
    held = [
        socket.create_connection(("127.0.0.1", port), timeout=120) for _ in range(BOUNDS.pending_of_source)
    ]
    held += [socket.create_connection(("127.0.0.1", port), timeout=120) for _ in range(EXTRA)]
    try:
        yield held
    finally:
        for one in held:
            one.close()


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def get(port: int, source: str, context: ssl.SSLContext | None) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=120, source_address=(source, 0)) as plain:
        connection = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest_twisted.ensureDeferred
async def test_silent_connections_are_closed_and_do_not_block_the_page(tmp_path: Path, scheme: str) -> None:
    page = PageConfig(listen="tcp:0:interface=127.0.0.1", origin=f"{scheme}://127.0.0.1:8080")
    public = PublicAuthority.open(tmp_path, [], page.endpoint)
    certificate = PageCertificate(page, public) if page.ends_tls else None
    context = ssl.create_default_context(cadata=public.ca_pem.decode()) if page.ends_tls else None
    root = Resource()
    root.putChild(b"page", Data(b"here", "text/plain"))
    listening = await listen(reactor, page, ManagementSite(root), certificate)
    port = listening.getHost().port  # type: ignore[attr-defined]

    def attack() -> tuple[list[bytes], int]:
        with connections(port) as held:
            answers = [get(port, source, context) for source in ("127.0.0.1", "127.0.0.2")]
            return answers, sum(is_closed(one) for one in held[:EXTRA])

    try:
        answers, closed = await deferToThread(attack)
    finally:
        await maybeDeferred(listening.stopListening)
    assert [answer[-4:] for answer in answers] == [b"here", b"here"]
    assert closed == EXTRA
