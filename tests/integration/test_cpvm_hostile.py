# SPDX-License-Identifier: Apache-2.0
"""Hostile browsers and VNC servers: memory and descriptors stay bounded, and an open console goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import FakeVncServer, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console
from systemvm.web.public_port import BOUNDS

pytestmark = pytest.mark.timeout(240)

MIB = 1 << 20
HANDSHAKES = 10_000
SOURCES = 100
OTHER_ADDRESS = "127.0.0.2"
#: What the kernel holds between a VNC server and a browser that reads nothing: four buffers that it enlarges.
BUFFERED_BYTES = 32 * MIB
#: What one connection without a session may cost: its TLS state, its channel and its transport.
KIB_OF_PENDING = 128


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def raised_descriptor_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = HANDSHAKES + 2000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], needed), max(before[1], needed)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Viewer:
    """An open console whose screen sends every key back."""

    def __init__(self, console: ConsoleProcess) -> None:
        def echo(screen: socket.socket) -> None:
            shake_hands(screen)
            while True:
                screen.sendall(exactly(screen, 8))

        self._screen = FakeVncServer(echo)
        self._connection = open_console(console, console.issue(self._screen.port)[0], source=OTHER_ADDRESS)
        self._connection.greet()
        self._number = 0

    def type(self, keys: int = 20) -> None:
        """Send keys, and check that exactly these come back."""
        for _ in range(keys):
            self._number += 1
            key = self._number.to_bytes(8, "big")
            self._connection.send_frame(2, key)
            assert self._connection.data(8) == key

    def close(self) -> None:
        self._connection.close()
        self._screen.close()


@pytest.fixture
def viewer(console: ConsoleProcess) -> Iterator[Viewer]:
    viewer = Viewer(console)
    viewer.type()
    yield viewer
    viewer.type()
    viewer.close()


def client_hello() -> bytes:
    """Return the first message of a TLS handshake."""
    sent = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="127.0.0.1").do_handshake()
    return sent.read()


def test_10_000_handshakes_that_never_finish_are_bounded(console: ConsoleProcess, viewer: Viewer) -> None:
    console.order("deadlines", seconds=600)  # only the bounds end a connection
    hello = client_hello()
    before_kib, before = console.order("rss"), console.order("descriptors")
    held = []
    try:
        for number in range(HANDSHAKES):
            raw = socket.socket()
            raw.bind((f"127.0.1.{1 + number % SOURCES}", 0))
            raw.settimeout(120)
            raw.connect(("127.0.0.1", console.port))
            with contextlib.suppress(ConnectionError):  # it was closed already to make room
                raw.sendall(hello if number % 2 else hello[:50])
            held.append(raw)
            if number % 1000 == 999:
                viewer.type()
        assert console.order("descriptors") - before <= BOUNDS.pending + 4
        assert console.order("rss") - before_kib < BOUNDS.pending * KIB_OF_PENDING
        assert Connection(console, source="127.0.0.3").request("GET", "/console").status == 200
    finally:
        for raw in held:
            raw.close()
        console.order("deadlines", seconds=8)


@pytest.mark.parametrize(
    "endless",
    [b"X-Flood: " + b"a" * 1000 + b"\r\n", b"a" * 1000, b"X: y\r\n" * 100, b"\r\n" * 500],
    ids=["headers", "a line", "short headers", "empty lines"],
)
def test_a_flood_of_headers_is_cut_off(console: ConsoleProcess, viewer: Viewer, endless: bytes) -> None:
    before_kib = console.order("rss")
    for _ in range(10):
        connection = Connection(console)
        sent = 0
        begin = b"" if endless.startswith(b"\r\n") else b"GET /console HTTP/1.1\r\n"
        with contextlib.suppress(OSError):
            connection.send(begin)
            while sent < 64 * MIB:
                connection.send(endless)
                sent += len(endless)
        assert sent < 16 * MIB, "the flood was never cut off"
        connection.close()
        viewer.type(2)
    assert console.order("rss") - before_kib < 4096


def test_many_slow_requests_harm_nobody(console: ConsoleProcess, viewer: Viewer) -> None:
    """A hundred connections of one address send a byte now and then, until their deadline ends them."""
    dripping = [Connection(console) for _ in range(BOUNDS.pending_of_source)]
    while dripping:  # the test's own time limit ends it
        for connection in list(dripping):
            try:
                connection.send(b"G")
                connection.tls.settimeout(0)
                with contextlib.suppress(ssl.SSLWantReadError):
                    if not connection.tls.recv(1):
                        raise ConnectionError
                connection.tls.settimeout(120)
            except OSError:
                dripping.remove(connection)
                connection.close()
        viewer.type()
        page = Connection(console, source="127.0.0.3")
        assert page.request("GET", "/console").status == 200
        page.close()


def test_a_message_over_the_limit_in_fragments_is_refused(console: ConsoleProcess, viewer: Viewer) -> None:
    received = 0

    def serve(screen: socket.socket) -> None:
        nonlocal received
        shake_hands(screen)
        while data := screen.recv(65536):
            received += len(data)

    screen = FakeVncServer(serve)
    connection = open_console(console, console.issue(screen.port)[0])
    connection.greet()
    before_kib = console.order("rss")
    connection.send_frame(2, bytes(65536), first=0x02)
    with contextlib.suppress(OSError):
        for _ in range(64):
            connection.send_frame(0, bytes(65536), first=0x00)
    assert connection.closing()[0] == 1009
    assert received <= MIB
    assert console.order("rss") - before_kib < 2048
    screen.close()


def test_endless_pictures_for_browsers_that_read_nothing(console: ConsoleProcess, viewer: Viewer) -> None:
    """The VNC servers are held back, so memory does not grow however long it lasts."""
    sent = [0] * 5
    ended = threading.Event()

    def endless(number: int) -> FakeVncServer:
        def serve(screen: socket.socket) -> None:
            shake_hands(screen)
            block = os.urandom(MIB)
            while not ended.is_set():
                sent[number] += screen.send(block)

        return FakeVncServer(serve)

    screens = [endless(number) for number in range(len(sent))]
    connections = []
    before_kib = console.order("rss")
    for screen in screens:
        connection = open_console(console, console.issue(screen.port)[0], receive_buffer=8192)
        connection.greet()
        connections.append(connection)
    so_far, unchanged = list(sent), 0
    while unchanged < 5:  # until the sockets' buffers are full
        viewer.type(100)
        time.sleep(0.2)
        unchanged = unchanged + 1 if sent == so_far and all(sent) else 0
        so_far = list(sent)
    full_kib = console.order("rss")
    assert full_kib - before_kib <= 512 * len(sent)
    for connection in connections:  # keys, pings and a message of a browser that does not read
        for _ in range(50):
            connection.send_frame(9, b"p" * 125)
            connection.send_frame(2, b"k" * 1000)
    viewer.type(1000)
    assert max(sent) <= BUFFERED_BYTES
    assert console.order("rss") - full_kib < 256
    ended.set()
    for connection in connections:
        connection.tls.close()
    for screen in screens:
        screen.close()
