# SPDX-License-Identifier: Apache-2.0
"""Tokens, cookies and sessions of consoles, at the socket."""

from __future__ import annotations

import threading
import time

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console, echo, screen
from integration.cpvm_lab.vnc_server import SERVER_INIT, FakeVncServer
from integration.cpvm_lab.wire import TIMEOUT_S, Connection, open_console

pytestmark = pytest.mark.timeout(60)

__all__ = ["console", "screen"]  # fixtures


def test_post_then_websocket(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port, name="web\x07-1")
    connection = Connection(console)
    assert connection.request("GET", f"/console?cmd=auth&token={token}").status == 200
    spent = connection.spend(token)
    policy = {"view_only": False, "clipboard_to_guest": True, "clipboard_from_guest": True}
    facts = {"kind": "screen", "recorded": False, "watches": False}
    assert spent.json() == {"session": session_id, "name": "web -1", "policy": policy, **facts}
    flags = spent.headers["set-cookie"][0].lower()
    assert flags.startswith(f"__host-console-{session_id}=")
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


def test_loading_the_page_uses_no_token(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    calls = len(console.calls_of("console.authorize"))
    for path in (
        f"/console?cmd=auth&token={token}",
        f"/resource/noVNC/vnc.html?autoconnect=true&token={token}",
    ):
        for method in ("HEAD", "GET", "HEAD", "GET"):
            answer = connection.request(method, path)
            assert answer.status == 200
            assert answer.headers["cache-control"] == ["no-store"]
            assert "set-cookie" not in answer.headers
            assert token.encode() not in answer.body
            assert b"<script>" not in answer.body
    assert len(console.calls_of("console.authorize")) == calls
    assert connection.spend(token).status == 200


def test_a_token_works_once(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    assert connection.spend(token).status == 200
    again = connection.spend(token)
    assert again.status == 403
    assert again.json()["title"] == "This console link has already been used"
    assert "set-cookie" not in again.headers
    assert connection.upgrade(f"token={token}").status == 101
    assert connection.closing() == (4402, "This console link has already been used")


def test_only_one_of_concurrent_posts_uses_the_token(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connections = [Connection(console) for _ in range(4)]
    together = threading.Barrier(len(connections))
    statuses: list[int] = []

    def race(connection: Connection) -> None:
        together.wait()
        statuses.append(connection.spend(token).status)

    racers = [threading.Thread(target=race, args=(connection,)) for connection in connections]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(TIMEOUT_S)
    assert sorted(statuses) == [200, 403, 403, 403]


@pytest.mark.parametrize(
    ("reason", "status", "title"),
    [
        ("token_expired", 403, "This console link has expired"),
        ("machine_stopped", 409, "The virtual machine is not running"),
        ("machine_gone", 404, "This virtual machine no longer exists"),
        ("what is this", 403, "This console link is not valid"),
    ],
)
def test_a_refusal_of_the_daemon_has_a_status_and_a_title(
    console: ConsoleProcess, screen: FakeVncServer, reason: str, status: int, title: str
) -> None:
    token, _ = console.issue(screen.port, refuse=reason)
    connection = Connection(console)
    answer = connection.spend(token)
    assert (answer.status, answer.json()["title"]) == (status, title)
    page = connection.spend(token, Accept="text/html")
    assert page.status == status
    assert page.headers["content-type"] == ["text/html; charset=utf-8"]
    assert title.encode() in page.body


@pytest.mark.parametrize("token", ["", "x" * 600, "../../etc", "a b", "%00", "<script>"])
def test_an_invalid_token_does_not_reach_the_daemon(console: ConsoleProcess, token: str) -> None:
    calls = len(console.calls_of("console.authorize"))
    assert Connection(console).spend(token).status in (400, 403)
    assert len(console.calls_of("console.authorize")) == calls


def test_a_program_can_use_its_token_at_the_websocket(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    connection = Connection(console)
    assert connection.upgrade(f"token={token}", Origin=None).status == 101
    connection.greet()
    connection.send_frame(8, (1000).to_bytes(2, "big"))
    assert connection.frame()[0] == 8
    assert connection.tls.recv(1) == b""
    # No cookie can open it again, so its end is reported to the daemon now and not after its lifetime.
    while session_id not in [closed["session"] for closed in console.calls_of("console.closed")]:
        time.sleep(0.05)


def test_another_machines_session_is_refused(console: ConsoleProcess, screen: FakeVncServer) -> None:
    mine, my_session = console.issue(screen.port, name="mine")
    theirs, their_session = console.issue(screen.port, name="theirs")
    connection = Connection(console)
    my_cookie = connection.spend(mine).cookie
    Connection(console).spend(theirs)
    cookie = my_cookie.replace(my_session, their_session)
    assert connection.upgrade(f"session={their_session}", Cookie=cookie).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_one_browser_can_hold_two_consoles(console: ConsoleProcess, screen: FakeVncServer) -> None:
    first, first_session = console.issue(screen.port)
    second, second_session = console.issue(screen.port)
    connection = Connection(console)
    cookie = connection.spend(first).cookie
    cookies = f"{cookie}; {connection.spend(second, Cookie=cookie).cookie}"
    for session_id in (first_session, second_session):
        other = Connection(console)
        assert other.upgrade(f"session={session_id}", Cookie=cookies).status == 101
        other.greet()
        other.close()


def test_cookies_of_ended_sessions_are_removed(console: ConsoleProcess, screen: FakeVncServer) -> None:
    connection = Connection(console)
    living = connection.spend(console.issue(screen.port)[0]).cookie
    stale = "__Host-console-0123456789abcdef"
    spent = connection.spend(console.issue(screen.port)[0], Cookie=f"{stale}=x; {living}; other=1")
    removed, new = spent.headers["set-cookie"]
    assert removed.startswith(f"{stale}=; Max-Age=0;")
    assert new.startswith("__Host-console-")


def test_a_session_has_one_window_and_one_place(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    cookie = Connection(console).spend(token).cookie
    before = None
    for _ in range(8):
        window = Connection(console)
        upgraded = window.upgrade(f"session={session_id}", Cookie=cookie)
        window.greet()
        assert upgraded.cookie != cookie
        if before is not None:
            assert before.closing() == (4418, "This console continues in another window")
        before, cookie = window, upgraded.cookie
    assert before is not None
    before.close()
    assert not [one for one in console.calls_of("console.closed") if one["session"] == session_id]


def test_a_stolen_secret_of_before_opens_nothing(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    window = Connection(console)
    stolen = window.spend(token).cookie
    assert window.upgrade(f"session={session_id}", Cookie=stolen).status == 101
    window.greet()
    thief = Connection(console)
    assert "set-cookie" not in thief.upgrade(f"session={session_id}", Cookie=stolen).headers
    assert thief.closing() == (4418, "This console continues in another window")
    window.send_frame(2, b"still here")
    assert window.data(10) == b"still here"


def test_of_racing_reconnects_exactly_one_wins(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    cookie = Connection(console).spend(token).cookie
    racers = [Connection(console) for _ in range(6)]
    together = threading.Barrier(len(racers))
    results: list[str | int] = []

    def race(connection: Connection) -> None:
        together.wait()
        connection.upgrade(f"session={session_id}", Cookie=cookie)
        opcode, payload = connection.frame()
        results.append("screen" if opcode == 2 else int.from_bytes(payload[:2], "big"))

    threads = [threading.Thread(target=race, args=(connection,)) for connection in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert sorted(results, key=str) == [*[4419] * 5, "screen"]


def test_after_a_lost_response_the_browser_can_come_back(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    token, session_id = console.issue(screen.port)
    cookie = Connection(console).spend(token).cookie

    def come_back() -> Connection:
        while True:
            connection = Connection(console)
            upgraded = connection.upgrade(f"session={session_id}", Cookie=cookie)
            if "set-cookie" in upgraded.headers:
                return connection
            assert connection.closing()[0] == 4419, "until the loss before is noticed"

    for _ in range(3):
        lost = come_back()
        assert lost.frame() == (2, b"RFB 003.008\n")
        lost.close()  # before the browser has sent anything
    come_back().greet()
    thief = Connection(console)
    thief.upgrade(f"session={session_id}", Cookie=cookie)
    assert thief.closing()[0] == 4418


@pytest.mark.parametrize(
    "cookie", [None, "__Host-console-ID=guess", "__Host-console-ID=", "__Host-console-ID=" + "x" * 200]
)
def test_a_guessed_cookie_opens_nothing(
    console: ConsoleProcess, screen: FakeVncServer, cookie: str | None
) -> None:
    token, session_id = console.issue(screen.port)
    Connection(console).spend(token)
    connection = Connection(console)
    sent = cookie and cookie.replace("ID", session_id)
    assert connection.upgrade(f"session={session_id}", Cookie=sent).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_a_session_ends_with_its_lifetime(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port, lifetime_s=0)
    connection = Connection(console)
    spent = connection.spend(token)
    assert connection.upgrade(f"session={session_id}", Cookie=spent.cookie).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_reconnecting_requests_the_target_again(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    connection = Connection(console)
    cookie = connection.spend(token).cookie
    calls = len(console.calls_of("console.target"))
    moved = FakeVncServer(echo)
    console.order(
        "target", session_id=session_id, target={"host": "127.0.0.1", "port": moved.port, "password": None}
    )
    upgraded = connection.upgrade(f"session={session_id}", Cookie=cookie)
    connection.greet()
    assert moved.connections
    assert not screen.connections
    moved.close()
    assert connection.closing() == (4410, "The virtual machine closed its screen")
    console.order("target", session_id=session_id, target={"refuse": "machine_stopped"})
    again = Connection(console)
    assert again.upgrade(f"session={session_id}", Cookie=upgraded.cookie).status == 101
    assert again.closing() == (4409, "The virtual machine is not running")
    assert len(console.calls_of("console.target")) == calls + 2


def test_without_the_daemon_no_console_opens(console: ConsoleProcess, screen: FakeVncServer) -> None:
    kept, kept_session = console.issue(screen.port)
    connection = Connection(console)
    cookie = connection.spend(kept).cookie
    token, _ = console.issue(screen.port)
    viewer = open_console(console, console.issue(screen.port)[0])
    viewer.greet()
    console.order("away", away=True)
    try:
        refused = connection.spend(token)
        assert (refused.status, refused.json()["title"]) == (503, "The cloud cannot check this link now")
        assert connection.upgrade(f"session={kept_session}", Cookie=cookie).status == 101
        assert connection.closing() == (4503, "The cloud cannot check this link now")
        # An open console stays open.
        viewer.send_frame(2, b"still here")
        assert viewer.data(10) == b"still here"
    finally:
        console.order("away", away=False)
    assert Connection(console).spend(token).status == 200
