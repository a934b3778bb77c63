# SPDX-License-Identifier: Apache-2.0
"""TLS over a socket: what one read returns, its time-out, and how connections end."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.tls_client import wrap_tls
from systemvm.ssvm.tls_connection import TlsConnection
from systemvm.wire.transfer_failure import TransferFailure

HOST = "source.example"
RECORD_BYTES = 16 << 10
Serve = Callable[[Callable[[ssl.SSLSocket], None]], socket.socket]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serve(authority: trustme.CA) -> Iterator[Serve]:
    """Return a socket whose peer does a TLS handshake and then runs the function."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def begin(script: Callable[[ssl.SSLSocket], None]) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        opened.extend((ours, theirs))

        def run() -> None:
            try:
                with context.wrap_socket(theirs, server_side=True) as connection:
                    script(connection)
            except OSError:
                theirs.close()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return ours

    yield begin
    for one in opened:
        one.close()
    for thread in threads:
        thread.join()


def connect(connection: socket.socket, authority: trustme.CA, host: str = HOST) -> TlsConnection:
    return wrap_tls(connection, host, authority.cert_pem.bytes().decode())


def read_all(connection: TlsConnection) -> bytes:
    received, buffer = bytearray(), bytearray(64 << 10)
    while count := connection.recv_into(buffer):
        received += buffer[:count]
    return bytes(received)


def test_one_read_returns_all_records_that_have_arrived(authority: trustme.CA, serve: Serve) -> None:
    sent = threading.Event()

    def send(connection: ssl.SSLSocket) -> None:
        for number in range(4):
            connection.sendall(bytes([number]) * RECORD_BYTES)
        sent.set()
        connection.recv(1)

    connection = connect(serve(send), authority)
    assert sent.wait(30)
    buffer = bytearray(5 * RECORD_BYTES)
    assert connection.recv_into(buffer) == 4 * RECORD_BYTES
    assert buffer[: 4 * RECORD_BYTES] == b"".join(bytes([number]) * RECORD_BYTES for number in range(4))
    connection.close()


def test_a_short_buffer_leaves_the_rest_to_the_next_read(authority: trustme.CA, serve: Serve) -> None:
    content = bytes(range(256)) * 1024
    connection = connect(serve(lambda peer: peer.sendall(content)), authority)
    first = bytearray(100)
    assert connection.recv_into(first, 7) == 7
    assert first == content[:7] + bytes(93)
    assert content[:7] + read_all(connection) == content
    connection.close()


def test_close_notify_is_the_end(authority: trustme.CA, serve: Serve) -> None:
    def send(peer: ssl.SSLSocket) -> None:
        peer.sendall(b"all")
        peer.unwrap()

    connection = connect(serve(send), authority)
    assert read_all(connection) == b"all"
    assert connection.recv(1) == b""
    connection.close()


def test_an_end_without_close_notify_is_an_end(authority: trustme.CA, serve: Serve) -> None:
    """Whoever reads has a length to compare; a server that only closes is common."""
    connection = connect(serve(lambda peer: peer.sendall(b"a part")), authority)
    assert read_all(connection) == b"a part"
    connection.close()


def test_a_record_that_is_damaged_is_an_error(authority: trustme.CA, serve: Serve) -> None:
    def damage(peer: ssl.SSLSocket) -> None:
        plain = socket.socket(fileno=peer.detach())
        with plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))

    connection = connect(serve(damage), authority)
    with pytest.raises(ssl.SSLError, match=r"(?i)mac|record"):
        connection.recv(100)
    connection.close()


def test_a_part_of_a_record_has_the_time_of_one_read(authority: trustme.CA, serve: Serve) -> None:
    """A byte now and then does not make a read longer than its time-out."""
    done = threading.Event()

    def trickle(peer: ssl.SSLSocket) -> None:
        plain = socket.socket(fileno=peer.detach())
        with plain:
            plain.sendall(b"\x17\x03\x03\x40\x00")
            while not done.wait(0.02):
                plain.sendall(b"x")

    connection = connect(serve(trickle), authority)
    connection.settimeout(0.2)
    try:
        with pytest.raises(TimeoutError):
            connection.recv(100)
        assert connection.gettimeout() == 0.2
    finally:
        done.set()
        connection.close()


def test_http_client_reads_a_response_through_it(authority: trustme.CA, serve: Serve) -> None:
    body = bytes(range(256)) * 4096

    def answer(peer: ssl.SSLSocket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += peer.recv(4096)
        assert request.startswith(b"GET /image HTTP/1.1\r\n")
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode() + body)

    client = http.client.HTTPConnection(HOST)
    client.sock = connect(serve(answer), authority)
    client.request("GET", "/image")
    assert client.getresponse().read() == body
    client.close()


def test_sent_bytes_arrive_whole(authority: trustme.CA, serve: Serve) -> None:
    content, received = bytes(range(256)) * 4096, bytearray()

    def receive(peer: ssl.SSLSocket) -> None:
        while len(received) < len(content):
            received.extend(peer.recv(RECORD_BYTES))
        peer.sendall(b"thanks")

    connection = connect(serve(receive), authority)
    connection.sendall(memoryview(content))
    assert connection.recv(100) == b"thanks"
    assert received == content
    connection.close()


def test_a_certificate_of_another_host_is_refused_and_the_socket_is_closed(
    authority: trustme.CA, serve: Serve
) -> None:
    connection = serve(lambda peer: None)
    with pytest.raises(TransferError) as caught:
        connect(connection, authority, "other.example")
    assert caught.value.code is TransferFailure.TLS_FAILED
    assert "certificate of other.example cannot be verified" in caught.value.message
    assert connection.fileno() == -1


def test_a_certificate_of_a_stranger_is_refused(serve: Serve) -> None:
    with pytest.raises(TransferError) as caught:
        connect(serve(lambda peer: None), trustme.CA())
    assert caught.value.code is TransferFailure.TLS_FAILED


def test_an_end_during_the_handshake_is_a_lost_connection(authority: trustme.CA) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(TransferError) as caught:
        connect(ours, authority)
    assert caught.value.code is TransferFailure.CONNECTION_LOST
    theirs.close()


def test_silence_during_the_handshake_is_a_stall(authority: trustme.CA) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    with pytest.raises(TransferError) as caught:
        connect(ours, authority)
    assert caught.value.code is TransferFailure.STALLED
    theirs.close()
