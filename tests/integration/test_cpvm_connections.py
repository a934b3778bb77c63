# SPDX-License-Identifier: Apache-2.0
"""Connections that say nothing keep nobody from the consoles, of their own address or of another."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from integration.cpvm_lab.front import Front
from integration.cpvm_lab.screen import FakeScreen, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console

pytestmark = pytest.mark.timeout(120)

CROWD = 1200
OTHER_ADDRESS = "127.0.0.2"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("front"))
    # Nothing is mended by waiting: only by who is let go.
    front.order("deadlines", seconds=600)
    yield front
    log = front.log()
    front.close()
    assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def room_for_sockets() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 4096), max(before[1], 4096)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def silent(front: Front) -> socket.socket:
    return socket.create_connection(("127.0.0.1", front.port), timeout=5)


def silent_after_its_handshake(front: Front) -> ssl.SSLSocket:
    return front.client_context().wrap_socket(silent(front), server_hostname="127.0.0.1")


def echo(screen: socket.socket) -> None:
    shake_hands(screen)
    while True:
        screen.sendall(exactly(screen, 3))


@contextlib.contextmanager
def crowd(front: Front, dial: Callable[[Front], socket.socket], count: int = CROWD) -> Iterator[None]:
    """So many connections of 127.0.0.1, or as many as the listener lets in."""
    held: list[socket.socket] = []
    try:
        with contextlib.suppress(TimeoutError):
            while len(held) < count:
                held.append(dial(front))
        yield
    finally:
        for one in held:
            one.close()


def test_a_silent_crowd_keeps_no_browser_of_another_address_out(front: Front) -> None:
    with crowd(front, silent):
        page = Connection(front, source=OTHER_ADDRESS).request("GET", "/console")
        assert (page.status, b"<html" in page.body) == (200, True)


def test_nor_one_of_its_own_address(front: Front) -> None:
    with crowd(front, silent):
        assert Connection(front).request("GET", "/console").status == 200


def test_a_crowd_that_shook_hands_keeps_no_browser_out_either(front: Front) -> None:
    with crowd(front, silent_after_its_handshake, 300):
        assert Connection(front, source=OTHER_ADDRESS).request("GET", "/console").status == 200


def test_a_console_that_is_open_stays_open_beside_a_crowd_of_its_own_address(front: Front) -> None:
    screen = FakeScreen(echo)
    console = open_console(front, front.issue(screen.port)[0])
    console.greet()
    with crowd(front, silent):
        console.send_frame(2, b"key")
        assert console.data(3) == b"key"
    console.close()
    screen.close()


def test_a_crowd_with_links_that_are_none_does_not_fill_the_viewers(front: Front) -> None:
    """WebSockets are let in before their token is known: until then they are worth no more than silence."""
    screen = FakeScreen(echo)
    held = []
    for number in range(150):
        held.append(Connection(front))
        assert held[-1].upgrade(f"token=guess-{number}").status in (101, 429)
    console = open_console(front, front.issue(screen.port)[0], source=OTHER_ADDRESS)
    console.greet()
    console.close()
    for connection in held:
        connection.close()
    screen.close()
