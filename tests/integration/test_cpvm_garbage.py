# SPDX-License-Identifier: Apache-2.0
"""Invalid data instead of TLS, HTTP, WebSocket frames and RFB, and peers that stop: each has a clean end."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from contextlib import suppress

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console
from integration.cpvm_lab.flood import flood
from integration.cpvm_lab.vnc_server import FakeVncServer, exactly, greet_and_wait, shake_hands
from integration.cpvm_lab.wire import TIMEOUT_S, Connection, open_console
from systemvm.cpvm.console_connection import MAX_EARLY_BYTES

pytestmark = pytest.mark.timeout(120)

__all__ = ["console"]  # a fixture


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_slow_handshake_is_dropped(console: ConsoleProcess, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", console.port), timeout=TIMEOUT_S) as raw:
        raw.sendall(data)
        with pytest.raises(ConnectionResetError):
            if not raw.recv(1):
                raise ConnectionResetError


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, os.urandom(512)])
def test_garbage_instead_of_a_handshake(console: ConsoleProcess, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", console.port), timeout=TIMEOUT_S) as raw:
        raw.sendall(data)
        with suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
    assert Connection(console).request("GET", "/console").status == 200


def test_garbage_instead_of_http(console: ConsoleProcess) -> None:
    for seed in range(20):
        connection = Connection(console)
        connection.send(random.Random(seed).randbytes(3000) + b"\r\n\r\n")
        with suppress(OSError):
            while connection.more():
                pass
        connection.close()
    assert Connection(console).request("GET", "/console").status == 200


@pytest.mark.parametrize("stage", ["before the greeting", "during it", "after it"])
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x82\x05hello", 1002),  # not masked
        (b"\x81\x80abcd", 1003),  # text
        (b"\xc2\x80abcd", 1002),  # a reserved bit
        (b"\x80\x80abcd", 1002),  # a continuation of nothing
        (b"\x83\x80abcd", 1002),  # no such opcode
        (b"\x09\x80abcd", 1002),  # half a ping
        (b"\x89\xfe\x00\x80abcd", 1002),  # a ping of 128 bytes
        (b"\x82\xff" + b"\xff" * 8 + b"abcd", 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"abcd", 1009),
        (b"\x88\x81abcd\x00", 1002),  # a close frame of one byte
    ],
)
def test_garbage_instead_of_frames(console: ConsoleProcess, stage: str, frame: bytes, code: int) -> None:
    hold = threading.Event()

    def serve(screen: socket.socket) -> None:
        if stage == "before the greeting":
            hold.wait(TIMEOUT_S)
        shake_hands(screen)
        screen.recv(1)

    screen = FakeVncServer(serve)
    connection = open_console(console, console.issue(screen.port)[0])
    if stage == "during it":
        connection.frame()
        connection.send_frame(2, b"RFB 003.")
    elif stage == "after it":
        connection.greet()
    connection.send(frame)
    assert connection.closing()[0] == code
    connection.close()
    hold.set()
    screen.close()


@pytest.mark.parametrize("data", [b"\x00" * 12, b"RFB 00x.008\n", b"GET / HTTP/1"])
def test_garbage_instead_of_a_greeting(console: ConsoleProcess, data: bytes) -> None:
    screen = flood(7, 1)
    connection = open_console(console, console.issue(screen.port)[0])
    connection.frame()
    connection.send_frame(2, data)
    assert connection.closing()[0] == 1002
    screen.close()


def test_the_handshake_goes_on_while_the_screen_is_connected(console: ConsoleProcess) -> None:
    hold = threading.Event()
    screen = FakeVncServer(lambda peer: (hold.wait(TIMEOUT_S), None)[1])
    connection = open_console(console, console.issue(screen.port)[0])
    assert connection.frame() == (2, b"RFB 003.008\n")
    connection.send_frame(2, b"RFB 003.008\n")
    assert connection.frame() == (2, b"\x01\x01" + bytes(4))
    connection.send_frame(2, b"\x01\x01" + bytes(MAX_EARLY_BYTES + 1))
    assert connection.closing() == (1009, "too much data before the server's ServerInit")
    hold.set()
    screen.close()


def test_a_screen_that_closes_is_reported(console: ConsoleProcess) -> None:
    screen = FakeVncServer(greet_and_wait)
    connection = open_console(console, console.issue(screen.port)[0])
    connection.greet()
    screen.close()
    assert connection.closing() == (4410, "The virtual machine closed its screen")
    assert connection.tls.recv(1) == b""


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_a_screen_that_never_answers_times_out(console: ConsoleProcess) -> None:
    hold = threading.Event()
    screen = FakeVncServer(lambda peer: (hold.wait(TIMEOUT_S), None)[1])
    connection = open_console(console, console.issue(screen.port)[0])
    connection.frame()
    connection.send_frame(2, b"RFB 003.008\n")  # the browser is alive
    assert connection.closing() == (4504, "The virtual machine's screen does not answer")
    hold.set()
    screen.close()


def test_a_browser_that_disconnects_closes_the_vnc_connection(console: ConsoleProcess) -> None:
    ended = threading.Event()

    def serve(screen: socket.socket) -> None:
        shake_hands(screen)
        try:
            exactly(screen, 1)
        except (EOFError, OSError):
            ended.set()

    screen = FakeVncServer(serve)
    connection = open_console(console, console.issue(screen.port)[0])
    connection.greet()
    connection.close()
    assert ended.wait(TIMEOUT_S)
    screen.close()


def test_a_slow_request_is_disconnected(console: ConsoleProcess) -> None:
    connection = Connection(console)
    with pytest.raises((OSError, EOFError)):
        connection.send(b"GET /console HTTP/1.1\r\nX-Drip: ")
        while True:  # the request never ends; the test's own time limit does
            connection.send(b"x")
            time.sleep(0.2)
