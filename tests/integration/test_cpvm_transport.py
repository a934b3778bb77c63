# SPDX-License-Identifier: Apache-2.0
"""The TLS transport and the relay under load: every byte arrives, and memory and descriptors are bounded."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console
from integration.cpvm_lab.flood import FloodReader, flood
from integration.cpvm_lab.vnc_server import FakeVncServer, shake_hands
from integration.cpvm_lab.wire import TIMEOUT_S, Connection, open_console

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20

__all__ = ["console"]  # a fixture


def test_stalled_and_flooded_viewers_receive_every_byte(console: ConsoleProcess) -> None:
    stalled_screens = [flood(seed, 96) for seed in (1, 2, 3)]
    stalled = []
    for screen in stalled_screens:
        connection = Connection(console, receive_buffer=8192)
        spent = connection.spend(console.issue(screen.port)[0])
        assert connection.upgrade(f"session={spent.json()['session']}", Cookie=spent.cookie).status == 101
        connection.greet()
        stalled.append(connection)
    flowing_screen = flood(9, 800)
    flowing = open_console(console, console.issue(flowing_screen.port)[0])
    flowing.greet()
    flowing_reader = FloodReader(flowing, 9)
    flowing_reader.read_to(400)
    for connection in stalled:  # pings and keys while the pictures stand still
        for number in range(100):
            connection.send_frame(9, b"%03d" % number)
            connection.send_frame(2, b"key")
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(flowing_reader.read_to, 800)
        for seed, connection in enumerate(stalled, 1):
            reader = FloodReader(connection, seed)
            reader.read_to(96)
            # Only the last of the pings that waited behind the pictures is answered.
            assert (reader.pongs or [connection.frame()[1]])[-1] == b"099"
            assert len(reader.pongs) < 100
        rest.result()
    for screen in [*stalled_screens, flowing_screen]:
        screen.close()


def test_readers_that_never_read_cost_one_frame_each(console: ConsoleProcess) -> None:
    def serve(screen: socket.socket) -> None:
        shake_hands(screen)
        block = os.urandom(MIB)
        for _ in range(64):
            screen.sendall(block)

    screen = FakeVncServer(serve)
    before_kib = console.order("rss")
    connections = []
    for _ in range(10):
        connection = open_console(console, console.issue(screen.port)[0], receive_buffer=8192)
        connection.greet()
        connections.append(connection)
    time.sleep(2)  # the time in which an unbounded relay would take all 640 MiB
    for connection in connections:
        for _ in range(200):  # the pongs must not accumulate either
            connection.send_frame(9, b"y" * 125)
    grown_kib = console.order("rss") - before_kib
    screen.close()
    for connection in connections:
        connection.close()
    assert grown_kib < 10 * 600, grown_kib


def test_a_screen_that_does_not_read_throttles_the_browser(console: ConsoleProcess) -> None:
    go_on = threading.Event()
    digest = hashlib.sha256()
    total = 24 * MIB
    received = threading.Event()

    def serve(screen: socket.socket) -> None:
        shake_hands(screen)
        go_on.wait(TIMEOUT_S)
        left = total
        while left:
            data = screen.recv(min(left, 65536))
            if not data:
                return
            digest.update(data)
            left -= len(data)
        received.set()
        screen.recv(1)

    screen = FakeVncServer(serve)
    connection = open_console(console, console.issue(screen.port)[0])
    connection.greet()
    before_kib = console.order("rss")
    expected = hashlib.sha256()
    connection.tls.settimeout(1)
    sent = 0
    held_at = None
    while sent < total:
        payload = random.Random(sent).randbytes(65536)
        try:
            connection.send_frame(2, payload)
        except TimeoutError:
            held_at = sent
            break
        expected.update(payload)
        sent += len(payload)
    assert held_at is not None, "the browser was never held back"
    assert console.order("rss") - before_kib < 2048
    connection.tls.close()  # the last frame is incomplete, so the connection is of no further use
    go_on.set()
    screen.close()


def test_all_that_a_browser_sends_reaches_a_slow_screen(console: ConsoleProcess) -> None:
    total = 8 * MIB
    got = bytearray()
    done = threading.Event()

    def serve(screen: socket.socket) -> None:
        shake_hands(screen)
        time.sleep(1)  # until all buffers in between are full
        while len(got) < total:
            data = screen.recv(30_000)
            if not data:
                return
            got.extend(data)
        done.set()

    screen = FakeVncServer(serve)
    connection = open_console(console, console.issue(screen.port)[0])
    connection.greet()
    payload = random.Random(5).randbytes(total)
    at = 0
    sizes = random.Random(6)
    while at < total:
        size = sizes.choice((1, 6, 125, 126, 9000, 65536, 200_000))
        piece = payload[at : at + size]
        connection.send_frame(2, piece)
        at += len(piece)
    assert done.wait(TIMEOUT_S)
    assert bytes(got) == payload
    screen.close()


def test_tls_1_1_is_refused(console: ConsoleProcess) -> None:
    old = console.client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Connection(console, old)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3(console: ConsoleProcess, version: ssl.TLSVersion) -> None:
    context = console.client_context()
    context.minimum_version = context.maximum_version = version
    screen = flood(4, 4)
    connection = Connection(console, context)
    spent = connection.spend(console.issue(screen.port)[0])
    assert connection.upgrade(f"session={spent.json()['session']}", Cookie=spent.cookie).status == 101
    connection.greet()
    FloodReader(connection, 4).read_to(4)
    screen.close()


def test_tls_1_3_is_preferred(console: ConsoleProcess) -> None:
    assert Connection(console).tls.version() == "TLSv1.3"


def test_keep_alive_serves_many_requests(console: ConsoleProcess) -> None:
    connection = Connection(console)
    for _ in range(60):
        page = connection.request("GET", "/novnc/core/input/keysymdef.js")
        assert len(page.body) > 10_000
        assert connection.request("POST", "/console", b"token=x", Origin=console.origin).status == 403
        assert connection.request("HEAD", "/console").status == 200


def test_pipelined_requests_are_all_answered(console: ConsoleProcess) -> None:
    connection = Connection(console)
    line = f"GET /novnc/core/rfb.js HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\n\r\n".encode()
    connection.send(line * 50)
    time.sleep(0.2)  # so that responses are queued
    first = connection.answer()
    assert all(connection.answer().body == first.body for _ in range(49))


def test_a_new_certificate_serves_the_next_handshake(console: ConsoleProcess) -> None:
    def serial(connection: Connection) -> object:
        certificate = connection.tls.getpeercert()
        assert certificate is not None
        return certificate["serialNumber"]

    screen = flood(8, 2)
    open_before = open_console(console, console.issue(screen.port)[0])
    open_before.greet()
    old = serial(Connection(console))
    console.set_up()
    assert serial(Connection(console)) != old
    FloodReader(open_before, 8).read_to(2)
    screen.close()


def test_closed_consoles_leave_no_descriptor(console: ConsoleProcess) -> None:
    screen = flood(3, 1)

    def open_and_close() -> None:
        connection = open_console(console, console.issue(screen.port)[0])
        connection.greet()
        connection.tls.close()

    open_and_close()  # the file of sessions is opened with the first one, and stays open
    before = None
    while before != (before := console.order("descriptors")):  # until those of other consoles are closed
        time.sleep(0.5)
    for _ in range(30):
        open_and_close()
    while console.order("descriptors") > before:  # the test's own time limit ends it
        time.sleep(0.1)
    screen.close()
