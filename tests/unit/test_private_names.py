# SPDX-License-Identifier: Apache-2.0
"""Private names of Twisted and pyOpenSSL in use here; a failure says which one an upgrade has moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from systemvm.rpc.tls import verify_result

PACKAGE = Path(__file__).resolve().parents[2] / "agents/systemvm"


def epoll_reactor() -> Any:
    return EPollReactor()


def unix_port() -> Any:
    return unix.Port(b"/nonexistent", Factory())


NAMES: list[tuple[str, Any, str]] = [
    # where it is used, an object that must have it, the name
    ("service/direct_epoll.py", lambda: EPollReactor, "_doReadOrWrite"),
    ("service/direct_epoll.py", lambda: EPollReactor, "_disconnectSelectable"),
    ("service/direct_epoll.py", epoll_reactor, "_poller"),
    ("service/direct_epoll.py", epoll_reactor, "_selectables"),
    ("cpvm/http_site.py", HTTPChannel, "_buffer"),
    ("cpvm/http_site.py", HTTPChannel, "_dataBuffer"),
    ("cpvm/http_site.py", HTTPChannel, "_savedTimeOut"),
    ("ssvm/serve/http_site.py", HTTPChannel, "_savedTimeOut"),
    ("web/public_port.py", lambda: tcp.Port, "_fromListeningDescriptor"),
    ("web/tls_transport.py", FileDescriptor, "_tempDataBuffer"),
    ("web/tls_transport.py", FileDescriptor, "_tempDataLen"),
    ("web/tls_transport.py", lambda: tcp.Connection, "_aborting"),
    ("rpc/stream/unix_path.py", unix_port, "_fromListeningDescriptor"),
    ("rpc/stream/unix_path.py", unix_port, "_shouldShutdown"),
    ("rpc/tls/verify_result.py", lambda: SSL, "_lib"),
    ("rpc/tls/verify_result.py", lambda: SSL, "_ffi"),
    ("rpc/tls/verify_result.py", lambda: SSL.Connection(SSL.Context(SSL.TLS_METHOD)), "_ssl"),
]


def test_a_channel_knows_the_request_line_before_the_body() -> None:
    """ssvm/serve/http_site.py reads it there, as an upload is answered while its body arrives."""

    class EarlyRequest(Request):
        def gotLength(self, length: int) -> None:
            seen.append((self.channel._command, self.channel._path, self.channel._version))
            super().gotLength(length)

    seen: list[tuple[bytes, bytes, bytes]] = []
    channel: Any = HTTPChannel()
    channel.requestFactory = EarlyRequest
    channel.makeConnection(StringTransport())
    channel.dataReceived(b"PATCH /upload/a HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    channel.connectionLost(Failure(ConnectionDone()))
    assert seen == [(b"PATCH", b"/upload/a", b"HTTP/1.1")]


@pytest.mark.parametrize(("used_in", "make", "name"), NAMES, ids=[name for _, _, name in NAMES])
def test_the_name_is_there(used_in: str, make: Any, name: str) -> None:
    owner = make()
    assert hasattr(owner, name), f"{owner} has no {name} any more; {used_in} needs it"


@pytest.mark.parametrize(("used_in", "name"), [(used_in, name) for used_in, _, name in NAMES])
def test_the_table_is_current(used_in: str, name: str) -> None:
    assert name in (PACKAGE / used_in).read_text(), f"{used_in} does not use {name} any more"


def test_a_listening_unix_port_keeps_its_path_in_bind_path(tmp_path: Path) -> None:
    """rpc/stream/unix_path.py replaces the path of an inherited socket, so that Twisted leaves it alone."""
    path = tmp_path / "socket"
    from twisted.internet import reactor

    port: Any = unix.Port(bytes(path), Factory(), reactor=reactor)
    port.startListening()
    try:
        assert port._bindPath == str(path).encode(), "rpc/stream/unix_path.py sets _bindPath"
    finally:
        port.stopListening()


def test_without_its_private_names_pyopenssl_gives_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    monkeypatch.delattr(SSL, "_lib")
    assert verify_result.verify_result(connection) == verify_result.X509_V_OK
    assert verify_result.verify_error_string(10) == "X509_V_ERR 10"


def test_the_verdict_has_a_text() -> None:
    assert "expired" in verify_result.verify_error_string(10)
