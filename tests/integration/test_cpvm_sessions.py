# SPDX-License-Identifier: Apache-2.0
"""Sessions of consoles: limits, timeouts and warnings, as the daemon sets them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import asdict

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console, echo, screen
from integration.cpvm_lab.vnc_server import FakeVncServer
from integration.cpvm_lab.wire import Connection, open_console
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.wire.console import SessionLimits

pytestmark = pytest.mark.timeout(120)

__all__ = ["console", "screen"]  # fixtures

KEY = bytes([4, 1, 0, 0, 0, 0, 0, 65])
REQUEST = bytes([3, 1]) + bytes(8)


@pytest.fixture(autouse=True)
def _defaults(console: ConsoleProcess) -> Iterator[None]:
    yield
    configure(console)
    console.order("drain", deadline_s=None)


def configure(console: ConsoleProcess, **values: Any) -> None:
    console.order("configure", **(asdict(SessionLimits()) | values))


def open_session(console: ConsoleProcess, screen: FakeVncServer) -> tuple[Connection, str, str]:
    """Return a connection after the handshake, its session and its cookie."""
    token, session_id = console.issue(screen.port)
    connection = Connection(console)
    spent = connection.spend(token)
    upgraded = connection.upgrade(f"session={session_id}", Cookie=spent.cookie)
    assert upgraded.status == 101
    connection.greet()
    return connection, session_id, upgraded.cookie


def text(connection: Connection) -> Any:
    """Return the next message for the page, and skip the screen's frames."""
    while True:
        opcode, payload = connection.frame()
        if opcode == 1:
            return json.loads(payload)
        assert opcode == 2, (opcode, payload)


def end_of(console: ConsoleProcess, session_id: str) -> dict[str, Any]:
    """Wait until the daemon knows of the session's end, and return what it was told."""
    while not (found := [one for one in console.calls_of("console.closed") if one["session"] == session_id]):
        time.sleep(0.05)
    [closed] = found
    return closed


def test_an_unused_session_is_warned_and_closed(console: ConsoleProcess, screen: FakeVncServer) -> None:
    configure(console, idle_timeout_s=3, warning_s=2)
    connection, session_id, cookie = open_session(console, screen)
    connection.send_frame(2, REQUEST)  # noVNC asks for the screen by itself
    message = text(connection)
    assert (message["notice"], 0 < message["ends_in_s"] <= 2) == ("idle", True)
    refusal = BrowserRefusal.SESSION_IDLE
    assert connection.closing() == (refusal.close_code, refusal.title)
    assert end_of(console, session_id)["code"] == "session_idle"
    again = Connection(console)
    again.upgrade(f"session={session_id}", Cookie=cookie)
    assert again.closing()[0] == refusal.close_code


def test_a_used_session_stays_open(console: ConsoleProcess, screen: FakeVncServer) -> None:
    configure(console, idle_timeout_s=4, warning_s=3)
    connection, session_id, cookie = open_session(console, screen)
    for _ in range(2):
        assert text(connection)["notice"] == "idle"
        connection.send_frame(2, KEY)
        assert text(connection) == {"notice": "used"}
    assert text(connection)["notice"] == "idle"
    page = Connection(console)
    stay = f"cmd=stay&session={session_id}".encode()
    headers = {"Origin": console.origin, "Accept": "application/json"}
    assert page.request("POST", "/console", stay, **headers).status == 403, "without the session's cookie"
    assert page.request("POST", "/console", stay, Cookie=cookie, **headers).status == 200
    assert text(connection) == {"notice": "used"}


def test_the_whole_time_of_a_session_ends_it(console: ConsoleProcess, screen: FakeVncServer) -> None:
    configure(console, warning_s=3600)
    token, session_id = console.issue(screen.port, lifetime_s=3)
    connection = open_console(console, token)
    connection.greet()
    connection.send_frame(2, KEY)
    assert text(connection)["notice"] == "over"
    refusal = BrowserRefusal.SESSION_OVER
    assert connection.closing() == (refusal.close_code, refusal.title)
    closed = end_of(console, session_id)
    assert (closed["code"], closed["received"], closed["sent"]) == ("session_over", 8, 8)


def test_the_zone_limits_the_sessions(console: ConsoleProcess, screen: FakeVncServer) -> None:
    configure(console, max_sessions=1, reconnect_s=0)
    for session in console.order("sessions"):
        console.order("end", session_ids=[session], reason="the test begins")
    connection, session_id, _ = open_session(console, screen)
    token, _ = console.issue(screen.port)
    calls = len(console.calls_of("console.authorize"))
    refused = Connection(console).spend(token)
    assert (refused.status, refused.json()["title"]) == (429, BrowserRefusal.TOO_MANY.title)
    program = Connection(console)
    program.upgrade(f"token={token}", Origin=None)
    assert program.closing()[0] == BrowserRefusal.TOO_MANY.close_code
    assert len(console.calls_of("console.authorize")) == calls, "the link is not spent"
    console.order("end", session_ids=[session_id], reason="enough")
    assert connection.closing()[0] == BrowserRefusal.SESSION_ENDED.close_code
    assert Connection(console).spend(token).status == 200


def test_a_browser_that_comes_back_while_the_daemon_is_away_is_back_after_it(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    connection, session_id, cookie = open_session(console, screen)
    connection.close()
    refusal = BrowserRefusal.DAEMON_AWAY
    assert refusal.is_transient, "the page tries again by itself"
    authorized = len(console.calls_of("console.authorize"))
    console.order("away", away=True)
    try:
        for _ in range(3):
            again = Connection(console)
            upgraded = again.upgrade(f"session={session_id}", Cookie=cookie)
            assert again.closing() == (refusal.close_code, refusal.title)
            again.close()
            cookie = upgraded.cookie
    finally:
        console.order("away", away=False)
    back = Connection(console)
    back.upgrade(f"session={session_id}", Cookie=cookie)
    back.greet()
    back.send_frame(2, KEY)
    assert back.data(8) == KEY
    assert len(console.calls_of("console.authorize")) == authorized


def test_settings_hold_for_open_sessions(console: ConsoleProcess, screen: FakeVncServer) -> None:
    connection, _, _ = open_session(console, screen)
    configure(console, idle_timeout_s=0.5, warning_s=0)
    assert connection.closing()[0] == BrowserRefusal.SESSION_IDLE.close_code


def test_other_clients_get_no_messages(console: ConsoleProcess, screen: FakeVncServer) -> None:
    """A program that presents a token at the WebSocket expects nothing but RFB."""
    configure(console, idle_timeout_s=2, warning_s=2)
    program = Connection(console)
    program.upgrade(f"token={console.issue(screen.port)[0]}", Origin=None)
    program.greet()
    assert program.frame()[0] == 8


def test_a_console_follows_its_screen(console: ConsoleProcess, screen: FakeVncServer) -> None:
    connection, session_id, cookie = open_session(console, screen)
    program = Connection(console)
    token, of_program = console.issue(screen.port)
    program.upgrade(f"token={token}", Origin=None)
    program.greet()
    moved = FakeVncServer(echo)
    place = {"host": "127.0.0.1", "port": moved.port}
    for session in (session_id, of_program):
        console.order("target", session_id=session, target={**place, "password": None})
    console.order("retarget", virtual_machine_id="vm-of-others", **place)
    console.order("retarget", virtual_machine_id=f"vm-{session_id}", host="127.0.0.1", port=screen.port)
    connection.send_frame(2, KEY)
    assert connection.data(8) == KEY, "it is where it must be"
    console.order("retarget", virtual_machine_id=f"vm-{session_id}", **place)
    refusal = BrowserRefusal.SCREEN_MOVED
    assert connection.closing() == (refusal.close_code, refusal.title)
    again = Connection(console)
    assert again.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    again.greet()
    assert moved.connections
    console.order("retarget", virtual_machine_id=f"vm-{of_program}", **place)
    program.send_frame(2, KEY)
    assert program.data(8) == KEY, "a program cannot come back, so it keeps its screen"
    moved.close()


def test_a_drained_proxy_takes_no_new_session_and_ends_the_last_at_the_deadline(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    _, session_id, cookie = open_session(console, screen)
    token, _ = console.issue(screen.port)
    console.order("drain", deadline_s=3600)
    refused = Connection(console).spend(token)
    assert (refused.status, refused.json()["title"]) == (503, BrowserRefusal.DRAINING.title)
    again = Connection(console)
    upgraded = again.upgrade(f"session={session_id}", Cookie=cookie)
    again.greet()  # a session that is open comes back
    console.order("drain", deadline_s=None)
    assert Connection(console).spend(token).status == 200, "the link was not spent"
    console.order("drain", deadline_s=0.2)
    refusal = BrowserRefusal.DRAINED
    assert again.closing() == (refusal.close_code, refusal.title)
    late = Connection(console)
    late.upgrade(f"session={session_id}", Cookie=upgraded.cookie)
    assert late.closing()[0] == refusal.close_code
    assert end_of(console, session_id)["code"] == "drained"
    console.order("drain", deadline_s=None)


def test_without_the_daemon_running_consoles_go_on_and_new_ones_are_refused(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    connection, _, _ = open_session(console, screen)
    token, _ = console.issue(screen.port)
    console.order("away", away=True)
    try:
        page = Connection(console)
        refused = page.spend(token, Accept="text/html")
        assert (refused.status, BrowserRefusal.DAEMON_AWAY.title.encode() in refused.body) == (503, True)
        connection.send_frame(2, KEY)
        assert connection.data(8) == KEY
    finally:
        console.order("away", away=False)
    assert Connection(console).spend(token).status == 200
