# SPDX-License-Identifier: Apache-2.0
"""VNC servers that fail, and the report of open sessions."""

from __future__ import annotations

import socket
import time

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console, screen
from integration.cpvm_lab.vnc_server import SERVER_INIT, FakeVncServer, exactly, shake_hands
from integration.cpvm_lab.wire import open_console

pytestmark = pytest.mark.timeout(60)

__all__ = ["console", "screen"]  # fixtures


def test_a_target_without_a_listener_is_reported(console: ConsoleProcess) -> None:
    token, _ = console.issue(1)
    assert open_console(console, token).closing() == (4502, "The virtual machine's screen cannot be reached")


def vnc_auth(screen: socket.socket, result: bytes) -> None:
    screen.sendall(b"RFB 003.008\n")
    exactly(screen, 12)
    screen.sendall(b"\x01\x02")
    exactly(screen, 1)
    screen.sendall(bytes(16))
    exactly(screen, 16)
    screen.sendall(result)


@pytest.mark.parametrize(
    ("serve", "password", "code"),
    [
        (lambda s: vnc_auth(s, b"\0\0\0\1\0\0\0\5wrong"), "12345678", 4511),
        (lambda s: vnc_auth(s, b"\0\0\0\1\xff\xff\xff\xff"), "12345678", 4513),
        (lambda s: vnc_auth(s, b"\0\0\0\0"), "12345678", 4502),  # the end instead of ServerInit
        (shake_hands, "12345678", 4512),  # it needs no password although one is set
        (lambda s: vnc_auth(s, b""), None, 4511),
        (lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None, 4513),
        (lambda s: s.sendall(b"RFB 003.008\n\x00\x7f\xff\xff\xff"), None, 4513),
        (lambda s: s.sendall(b"RFB 003.008\n\x01\x10"), None, 4513),
        (lambda s: s.sendall(b"RFB 003.008\n\x01\x01\0\0\0\0" + SERVER_INIT[:20] + b"\xff" * 4), None, 4513),
        (lambda s: None, None, 4502),
    ],
)  # fmt: skip
def test_a_screen_that_fails_has_a_close_code(
    console: ConsoleProcess, serve: object, password: str | None, code: int
) -> None:
    def run(screen: socket.socket) -> None:
        serve(screen)  # type: ignore[operator]
        if code in (4502,):
            screen.shutdown(socket.SHUT_RDWR)
        screen.recv(64)
        screen.recv(64)

    screen = FakeVncServer(run)
    token, _ = console.issue(screen.port, password)
    close_code, reason = open_console(console, token).closing()
    screen.close()
    assert close_code == code
    assert len(reason) > 20


def test_load_lists_open_sessions(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    watching = open_console(console, token)
    watching.greet()
    while not any(session_id in load["sessions"] for load in console.calls_of("console.load")):
        time.sleep(0.1)  # the test's own time limit ends it
    watching.close()
