# SPDX-License-Identifier: Apache-2.0
"""Silent connections do not block consoles of the same or another address."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import FakeVncServer, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console

pytestmark = pytest.mark.timeout(120)

CONNECTIONS = 1200
OTHER_ADDRESS = "127.0.0.2"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    # No deadline closes a connection during these tests: only the bounds do.
    console.order("deadlines", seconds=600)
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def raised_descriptor_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 4096), max(before[1], 4096)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def silent(console: ConsoleProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", console.port), timeout=5)


def silent_after_its_handshake(console: ConsoleProcess) -> ssl.SSLSocket:
    return console.client_context().wrap_socket(silent(console), server_hostname="127.0.0.1")


def echo(screen: socket.socket) -> None:
    shake_hands(screen)
    while True:
        screen.sendall(exactly(screen, 3))


@contextlib.contextmanager
def connections(
    console: ConsoleProcess, dial: Callable[[ConsoleProcess], socket.socket], count: int = CONNECTIONS
) -> Iterator[None]:
    """Hold `count` connections of 127.0.0.1, or as many as the listener accepts."""
    held: list[socket.socket] = []
    try:
        with contextlib.suppress(TimeoutError):
            while len(held) < count:
                held.append(dial(console))
        yield
    finally:
        for one in held:
            one.close()


def test_silent_connections_do_not_block_a_browser_of_another_address(console: ConsoleProcess) -> None:
    with connections(console, silent):
        page = Connection(console, source=OTHER_ADDRESS).request("GET", "/console")
        assert (page.status, b"<html" in page.body) == (200, True)


def test_silent_connections_do_not_block_a_browser_of_the_same_address(console: ConsoleProcess) -> None:
    with connections(console, silent):
        assert Connection(console).request("GET", "/console").status == 200


def test_idle_tls_connections_do_not_block_a_browser(console: ConsoleProcess) -> None:
    with connections(console, silent_after_its_handshake, 300):
        assert Connection(console, source=OTHER_ADDRESS).request("GET", "/console").status == 200


def test_silent_connections_do_not_close_an_open_console_of_the_same_address(console: ConsoleProcess) -> None:
    screen = FakeVncServer(echo)
    viewer = open_console(console, console.issue(screen.port)[0])
    viewer.greet()
    with connections(console, silent):
        viewer.send_frame(2, b"key")
        assert viewer.data(3) == b"key"
    viewer.close()
    screen.close()


def test_websockets_with_invalid_tokens_do_not_use_up_the_viewers(console: ConsoleProcess) -> None:
    """A WebSocket opens before its token is checked; until then it counts as a silent connection."""
    screen = FakeVncServer(echo)
    held = []
    for number in range(150):
        held.append(Connection(console))
        assert held[-1].upgrade(f"token=guess-{number}").status in (101, 429)
    viewer = open_console(console, console.issue(screen.port)[0], source=OTHER_ADDRESS)
    viewer.greet()
    viewer.close()
    for connection in held:
        connection.close()
    screen.close()
