# SPDX-License-Identifier: Apache-2.0
"""Tokens, cookies, origins and the ends of consoles, at the socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.cpvm_lab.front import Front
from integration.cpvm_lab.screen import SERVER_INIT, FakeScreen, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("front"))
    yield front
    front.close()


def echo(screen: socket.socket) -> None:
    shake_hands(screen)
    while data := screen.recv(65536):
        screen.sendall(data)


@pytest.fixture
def screen() -> Iterator[FakeScreen]:
    screen = FakeScreen(echo)
    yield screen
    screen.close()


def test_post_then_websocket(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port, name="web\x07-1")
    connection = Connection(front)
    page = connection.request("GET", f"/console?cmd=auth&token={token}")
    assert page.status == 200
    spent = connection.spend(token)
    assert spent.json() == {"session": session_id, "name": "web -1"}
    flags = spent.headers["set-cookie"][0].lower()
    assert flags.startswith("__host-console=")
    assert all(flag in flags for flag in ("; path=/", "; httponly", "; secure", "; samesite=strict"))
    assert "domain" not in flags
    upgraded = connection.upgrade(f"session={session_id}", Cookie=spent.cookie)
    assert upgraded.status == 101
    assert upgraded.headers["sec-websocket-protocol"] == ["binary"]
    assert connection.greet() == SERVER_INIT[:20] + (6).to_bytes(4, "big") + b"web -1"
    connection.send_frame(2, b"hello")
    assert connection.data(5) == b"hello"
    connection.send_frame(9, b"are you there")
    assert connection.frame() == (10, b"are you there")
    connection.send_frame(8, (1000).to_bytes(2, "big"))
    assert connection.frame()[0] == 8
    assert connection.tls.recv(1) == b""  # close_notify, then the end
    connection.close()
