# SPDX-License-Identifier: Apache-2.0
"""Tokens, cookies, origins and the ends of consoles, at the socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import SERVER_INIT, FakeVncServer, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


def echo(screen: socket.socket) -> None:
    shake_hands(screen)
    while data := screen.recv(65536):
        screen.sendall(data)


@pytest.fixture
def screen() -> Iterator[FakeVncServer]:
    screen = FakeVncServer(echo)
    yield screen
    screen.close()


def test_post_then_websocket(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port, name="web\x07-1")
    connection = Connection(console)
    assert connection.request("GET", f"/console?cmd=auth&token={token}").status == 200
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


def test_looking_spends_nothing(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    asked = len(console.heard("console.authorize"))
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
    assert len(console.heard("console.authorize")) == asked
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


def test_two_posts_at_once_and_one_wins(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connections = [Connection(console) for _ in range(4)]
    together = threading.Barrier(len(connections))
    seen: list[int] = []

    def race(connection: Connection) -> None:
        together.wait()
        seen.append(connection.spend(token).status)

    racers = [threading.Thread(target=race, args=(connection,)) for connection in connections]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(15)
    assert sorted(seen) == [200, 403, 403, 403]


@pytest.mark.parametrize(
    ("reason", "status", "title"),
    [
        ("token_expired", 403, "This console link has expired"),
        ("machine_stopped", 409, "The virtual machine is not running"),
        ("machine_gone", 404, "This virtual machine no longer exists"),
        ("what is this", 403, "This console link is not valid"),
    ],
)
def test_the_daemons_no_is_told_in_words(
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
def test_no_token_in_form_reaches_the_daemon(console: ConsoleProcess, token: str) -> None:
    asked = len(console.heard("console.authorize"))
    assert Connection(console).spend(token).status in (400, 403)
    assert len(console.heard("console.authorize")) == asked


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", None, "https://127.0.0.1", "http://127.0.0.1:{port}", ""]
)
def test_a_foreign_origin_spends_nothing(
    console: ConsoleProcess, screen: FakeVncServer, origin: str | None
) -> None:
    token, session_id = console.issue(screen.port)
    said = origin.format(port=console.port) if origin is not None else None
    connection = Connection(console)
    refused = connection.spend(token, Origin=said)
    assert refused.status == 403
    assert refused.json()["title"] == "Another web site tried to open this console"
    if origin is not None:
        assert Connection(console).upgrade(f"token={token}", Origin=said).status == 403
    spent = connection.spend(token)
    assert spent.status == 200
    # A cookie is a browser's, and a browser says where it comes from.
    assert connection.upgrade(f"session={session_id}", Origin=said, Cookie=spent.cookie).status == 403


def test_a_cross_site_fetch_is_refused_whatever_its_origin_says(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    token, _ = console.issue(screen.port)
    assert Connection(console).spend(token, Sec_Fetch_Site="cross-site").status == 403
    assert Connection(console).spend(token, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:{port}", "a@127.0.0.1:{port}"]
)
def test_a_wrong_host_gets_a_page(console: ConsoleProcess, host: str) -> None:
    connection = Connection(console)
    answer = connection.request("GET", "/console", host=host.format(port=console.port))
    assert answer.status == 421
    assert b"served under another address" in answer.body
    # And the claim taught the console nothing.
    assert connection.spend("x", Origin="https://evil.example").status == 403


def test_two_origins_are_none(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    answer = connection.request(
        "POST",
        "/console",
        f"token={token}".encode(),
        Origin=f"{console.origin}\r\nOrigin: {console.origin}",
    )
    assert answer.status == 403


def test_a_program_may_use_its_token_at_the_websocket(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    connection = Connection(console)
    assert connection.upgrade(f"token={token}", Origin=None).status == 101
    connection.greet()
    connection.send_frame(8, (1000).to_bytes(2, "big"))
    assert connection.frame()[0] == 8
    assert connection.tls.recv(1) == b""
    # No cookie can open it again, so the daemon hears of its end at once.
    assert [closed["session"] for closed in console.heard("console.closed")][-1] == session_id


def test_another_machines_session_is_refused(console: ConsoleProcess, screen: FakeVncServer) -> None:
    mine, _ = console.issue(screen.port, name="mine")
    theirs, their_session = console.issue(screen.port, name="theirs")
    connection = Connection(console)
    my_cookie = connection.spend(mine).cookie
    Connection(console).spend(theirs)
    assert connection.upgrade(f"session={their_session}", Cookie=my_cookie).status == 101
    assert connection.closing() == (4405, "This browser has no access to that virtual machine")


def test_one_browser_may_hold_two_consoles(console: ConsoleProcess, screen: FakeVncServer) -> None:
    first, first_session = console.issue(screen.port)
    second, second_session = console.issue(screen.port)
    connection = Connection(console)
    cookie = connection.spend(first).cookie
    assert connection.spend(second, Cookie=cookie).cookie == cookie
    for session_id in (first_session, second_session):
        other = Connection(console)
        assert other.upgrade(f"session={session_id}", Cookie=cookie).status == 101
        other.greet()
        other.close()


def test_a_session_has_so_many_windows_and_no_more(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    first = Connection(console)
    cookie = first.spend(token).cookie
    windows = []
    for _ in range(8):
        window = Connection(console)
        assert window.upgrade(f"session={session_id}", Cookie=cookie).status == 101
        window.greet()
        windows.append(window)
    assert first.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    assert first.closing() == (4429, "Too many consoles are open")
    for window in windows:
        window.close()


@pytest.mark.parametrize(
    "cookie", [None, "__Host-console=guess", "__Host-console=", "__Host-console=" + "x" * 200]
)
def test_a_guessed_cookie_opens_nothing(
    console: ConsoleProcess, screen: FakeVncServer, cookie: str | None
) -> None:
    token, session_id = console.issue(screen.port)
    Connection(console).spend(token)
    connection = Connection(console)
    assert connection.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_a_session_ends_with_its_lifetime(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port, lifetime_s=0)
    connection = Connection(console)
    spent = connection.spend(token)
    assert connection.upgrade(f"session={session_id}", Cookie=spent.cookie).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_connecting_again_asks_where_the_machine_is_now(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    token, session_id = console.issue(screen.port)
    connection = Connection(console)
    cookie = connection.spend(token).cookie
    asked = len(console.heard("console.target"))
    moved = FakeVncServer(echo)
    console.order(
        "target", session_id=session_id, target={"host": "127.0.0.1", "port": moved.port, "password": None}
    )
    assert connection.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    connection.greet()
    assert moved.connections
    assert not screen.connections
    moved.close()
    assert connection.closing() == (4410, "The virtual machine closed its screen")
    console.order("target", session_id=session_id, target={"refuse": "machine_stopped"})
    again = Connection(console)
    assert again.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    assert again.closing() == (4409, "The virtual machine is not running")
    assert len(console.heard("console.target")) == asked + 2


def test_without_the_daemon_nobody_is_let_in(console: ConsoleProcess, screen: FakeVncServer) -> None:
    kept, kept_session = console.issue(screen.port)
    connection = Connection(console)
    cookie = connection.spend(kept).cookie
    token, _ = console.issue(screen.port)
    seeing = open_console(console, console.issue(screen.port)[0])
    seeing.greet()
    console.order("away", away=True)
    try:
        refused = connection.spend(token)
        assert (refused.status, refused.json()["title"]) == (503, "The cloud cannot check this link now")
        assert connection.upgrade(f"session={kept_session}", Cookie=cookie).status == 101
        assert connection.closing() == (4503, "The cloud cannot check this link now")
        # Who is in already goes on seeing.
        seeing.send_frame(2, b"still here")
        assert seeing.data(10) == b"still here"
    finally:
        console.order("away", away=False)
    assert Connection(console).spend(token).status == 200


def test_nobody_listens_at_the_target(console: ConsoleProcess) -> None:
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
        (shake_hands, "12345678", 4512),  # it asks for no password although one is set
        (lambda s: vnc_auth(s, b""), None, 4511),
        (lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None, 4513),
        (lambda s: s.sendall(b"RFB 003.008\n\x00\x7f\xff\xff\xff"), None, 4513),
        (lambda s: s.sendall(b"RFB 003.008\n\x01\x10"), None, 4513),
        (lambda s: s.sendall(b"RFB 003.008\n\x01\x01\0\0\0\0" + SERVER_INIT[:20] + b"\xff" * 4), None, 4513),
        (lambda s: None, None, 4502),
    ],
)  # fmt: skip
def test_a_screen_that_will_not(
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
    seen, words = open_console(console, token).closing()
    screen.close()
    assert seen == code
    assert len(words) > 20


def test_load_names_who_is_watched(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port)
    watching = open_console(console, token)
    watching.greet()
    for _ in range(150):
        if any(session_id in load["sessions"] for load in console.heard("console.load")):
            break
        threading.Event().wait(0.1)
    else:
        raise AssertionError("the load report never named the session")
    watching.close()


def test_secrets_stay_out_of_the_log(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, session_id = console.issue(screen.port, None)
    connection = Connection(console)
    connection.request("GET", f"/console?cmd=auth&token={token}", Referer=f"{console.origin}/?token={token}")
    connection.request("GET", f"/nothing/{token}?token={token}")
    spent = connection.spend(token)
    connection.upgrade(f"session={session_id}&token2={token}", Cookie=spent.cookie)
    connection.greet()
    cookie = spent.cookie.partition("=")[2]
    log = console.log()
    assert "/console" in log
    assert "/websockify" in log
    assert token not in log
    assert cookie not in log
    assert "PRIVATE KEY" not in log


def test_every_answer_has_its_headers(console: ConsoleProcess) -> None:
    connection = Connection(console)
    for path in ("/console", "/console.js", "/novnc/core/rfb.js", "/nothing", "/websockify", "/"):
        answer = connection.request("GET", path)
        policy = answer.headers["content-security-policy"][0]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert f"wss://127.0.0.1:{console.port}" in policy
        assert answer.headers["strict-transport-security"] == ["max-age=31536000"]
        assert answer.headers["x-content-type-options"] == ["nosniff"]
        assert answer.headers["referrer-policy"] == ["no-referrer"]
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/%2F..",
        "/novnc/",
        "/novnc",
        "/novnc/core",
        "/novnc/../console.js",
        "/novnc/core/../../../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/novnc/core/rfb.js/",
        "/novnc/core/%72fb.js",
        "/.git/config",
        "/novnc/package.json",
        "/console.html",
        "/refused.html",
        "/console/",
        "/" + "a" * 4000,
    ],
)
def test_nothing_but_the_files_themselves(console: ConsoleProcess, path: str) -> None:
    answer = Connection(console).request("GET", path)
    assert answer.status == 404
    assert "location" not in answer.headers


def test_files_are_not_sent_twice(console: ConsoleProcess) -> None:
    connection = Connection(console)
    first = connection.request("GET", "/novnc/core/rfb.js")
    assert first.headers["content-type"] == ["text/javascript; charset=utf-8"]
    again = connection.request("GET", "/novnc/core/rfb.js", If_None_Match=first.headers["etag"][0])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Upgrade": None}, 400),
        ({"Connection": "close"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": "\xe9" * 24}, 400),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Protocol": "\xff\xfe"}, 101),
    ],
)
def test_a_wrong_upgrade(
    console: ConsoleProcess, screen: FakeVncServer, change: dict[str, str | None], status: int
) -> None:
    token, _ = console.issue(screen.port)
    asked = len(console.heard("console.authorize"))
    answer = Connection(console).upgrade(f"token={token}", **change)
    assert answer.status == status
    assert "sec-websocket-protocol" not in answer.headers
    if status != 101:
        assert len(console.heard("console.authorize")) == asked


def test_bytes_behind_an_upgrade_are_refused(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    lines = [
        f"GET /websockify?token={token} HTTP/1.1",
        f"Host: 127.0.0.1:{console.port}",
        f"Origin: {console.origin}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
    ]
    connection.send("\r\n".join([*lines, "", ""]).encode() + b"\x82\x80abcd")
    assert connection.answer().status == 400
    assert Connection(console).spend(token).status == 200


@pytest.mark.parametrize("length", ["8193", "999999999999", "-1", "x"])
def test_a_large_body_is_not_taken(console: ConsoleProcess, length: str) -> None:
    connection = Connection(console)
    connection.send(
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    assert connection.answer().status in (400, 413)
    assert connection.tls.recv(1) == b""


def test_a_chunked_body_spends_nothing(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    body = f"token={token}".encode()
    connection = Connection(console)
    connection.send(
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\nOrigin: {console.origin}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )
    assert connection.answer().status == 413
    assert Connection(console).spend(token).status == 200


def test_each_byte_of_a_request_alone(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    body = f"cmd=auth&token={token}"
    request = (
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\nOrigin: {console.origin}\r\n"
        f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    for byte in request.encode():
        connection.send(bytes([byte]))
    assert connection.answer().status == 200


def test_an_unusable_certificate_changes_nothing(console: ConsoleProcess) -> None:
    with pytest.raises(RuntimeError, match=r"is not valid for 127\.0\.0\.1"):
        console.set_up("other.example")
    with pytest.raises(RuntimeError, match="does not contain a PEM"):
        console.order("setup", origin=console.origin, certificate_pem="", private_key_pem="")
    for wrong in ("http://127.0.0.1:8443", "https://*.consoles.example", "https://127.0.0.1/a//b"):
        with pytest.raises(RuntimeError, match="https"):
            console.order("setup", origin=wrong, certificate_pem="", private_key_pem="")
    assert Connection(console).request("GET", "/console").status == 200
