# SPDX-License-Identifier: Apache-2.0
"""Tokens, cookies, origins and the ends of consoles, at the socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from integration.cpvm_lab.front import Front
from integration.cpvm_lab.screen import SERVER_INIT, FakeScreen, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("front"))
    yield front
    log = front.log()
    front.close()
    assert "Traceback" not in log, log


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


def test_looking_spends_nothing(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    connection = Connection(front)
    asked = len(front.heard("console.authorize"))
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
    assert len(front.heard("console.authorize")) == asked
    assert connection.spend(token).status == 200


def test_a_token_works_once(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    connection = Connection(front)
    assert connection.spend(token).status == 200
    again = connection.spend(token)
    assert again.status == 403
    assert again.json()["title"] == "This console link has already been used"
    assert "set-cookie" not in again.headers
    assert connection.upgrade(f"token={token}").status == 101
    assert connection.closing() == (4402, "This console link has already been used")


def test_two_posts_at_once_and_one_wins(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    connections = [Connection(front) for _ in range(4)]
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
    front: Front, screen: FakeScreen, reason: str, status: int, title: str
) -> None:
    token, _ = front.issue(screen.port, refuse=reason)
    connection = Connection(front)
    answer = connection.spend(token)
    assert (answer.status, answer.json()["title"]) == (status, title)
    page = connection.spend(token, Accept="text/html")
    assert page.status == status
    assert page.headers["content-type"] == ["text/html; charset=utf-8"]
    assert title.encode() in page.body


@pytest.mark.parametrize("token", ["", "x" * 600, "../../etc", "a b", "%00", "<script>"])
def test_no_token_in_form_reaches_the_daemon(front: Front, token: str) -> None:
    asked = len(front.heard("console.authorize"))
    assert Connection(front).spend(token).status in (400, 403)
    assert len(front.heard("console.authorize")) == asked


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", None, "https://127.0.0.1", "http://127.0.0.1:{port}", ""]
)
def test_a_foreign_origin_spends_nothing(front: Front, screen: FakeScreen, origin: str | None) -> None:
    token, session_id = front.issue(screen.port)
    said = origin.format(port=front.port) if origin is not None else None
    connection = Connection(front)
    refused = connection.spend(token, Origin=said)
    assert refused.status == 403
    assert refused.json()["title"] == "Another web site tried to open this console"
    if origin is not None:
        assert Connection(front).upgrade(f"token={token}", Origin=said).status == 403
    spent = connection.spend(token)
    assert spent.status == 200
    # A cookie is a browser's, and a browser says where it comes from.
    assert connection.upgrade(f"session={session_id}", Origin=said, Cookie=spent.cookie).status == 403


def test_a_cross_site_fetch_is_refused_whatever_its_origin_says(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    assert Connection(front).spend(token, Sec_Fetch_Site="cross-site").status == 403
    assert Connection(front).spend(token, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:{port}", "a@127.0.0.1:{port}"]
)
def test_a_wrong_host_gets_a_page(front: Front, host: str) -> None:
    connection = Connection(front)
    answer = connection.request("GET", "/console", host=host.format(port=front.port))
    assert answer.status == 421
    assert b"served under another address" in answer.body
    # And the claim taught the front nothing.
    assert connection.spend("x", Origin="https://evil.example").status == 403


def test_two_origins_are_none(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    connection = Connection(front)
    answer = connection.request(
        "POST",
        "/console",
        f"token={token}".encode(),
        Origin=f"{front.origin}\r\nOrigin: {front.origin}",
    )
    assert answer.status == 403


def test_a_program_may_use_its_token_at_the_websocket(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port)
    connection = Connection(front)
    assert connection.upgrade(f"token={token}", Origin=None).status == 101
    connection.greet()
    connection.send_frame(8, (1000).to_bytes(2, "big"))
    assert connection.frame()[0] == 8
    assert connection.tls.recv(1) == b""
    # No cookie can open it again, so the daemon hears of its end at once.
    assert [closed["session"] for closed in front.heard("console.closed")][-1] == session_id


def test_another_machines_session_is_refused(front: Front, screen: FakeScreen) -> None:
    mine, _ = front.issue(screen.port, name="mine")
    theirs, their_session = front.issue(screen.port, name="theirs")
    connection = Connection(front)
    my_cookie = connection.spend(mine).cookie
    Connection(front).spend(theirs)
    assert connection.upgrade(f"session={their_session}", Cookie=my_cookie).status == 101
    assert connection.closing() == (4405, "This browser was not let in to that virtual machine")


def test_one_browser_may_hold_two_consoles(front: Front, screen: FakeScreen) -> None:
    first, first_session = front.issue(screen.port)
    second, second_session = front.issue(screen.port)
    connection = Connection(front)
    cookie = connection.spend(first).cookie
    assert connection.spend(second, Cookie=cookie).cookie == cookie
    for session_id in (first_session, second_session):
        other = Connection(front)
        assert other.upgrade(f"session={session_id}", Cookie=cookie).status == 101
        other.greet()
        other.close()


def test_a_session_has_so_many_windows_and_no_more(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port)
    first = Connection(front)
    cookie = first.spend(token).cookie
    windows = []
    for _ in range(8):
        window = Connection(front)
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
def test_a_guessed_cookie_opens_nothing(front: Front, screen: FakeScreen, cookie: str | None) -> None:
    token, session_id = front.issue(screen.port)
    Connection(front).spend(token)
    connection = Connection(front)
    assert connection.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_a_session_ends_with_its_lifetime(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port, lifetime_s=0)
    connection = Connection(front)
    spent = connection.spend(token)
    assert connection.upgrade(f"session={session_id}", Cookie=spent.cookie).status == 101
    assert connection.closing() == (4407, "This console session has ended")


def test_connecting_again_asks_where_the_machine_is_now(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port)
    connection = Connection(front)
    cookie = connection.spend(token).cookie
    asked = len(front.heard("console.target"))
    moved = FakeScreen(echo)
    front.order(
        "target", session_id=session_id, target={"host": "127.0.0.1", "port": moved.port, "password": None}
    )
    assert connection.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    connection.greet()
    assert moved.connections
    assert not screen.connections
    moved.close()
    assert connection.closing() == (4410, "The virtual machine closed its screen")
    front.order("target", session_id=session_id, target={"refuse": "machine_stopped"})
    again = Connection(front)
    assert again.upgrade(f"session={session_id}", Cookie=cookie).status == 101
    assert again.closing() == (4409, "The virtual machine is not running")
    assert len(front.heard("console.target")) == asked + 2


def test_without_the_daemon_nobody_is_let_in(front: Front, screen: FakeScreen) -> None:
    kept, kept_session = front.issue(screen.port)
    connection = Connection(front)
    cookie = connection.spend(kept).cookie
    token, _ = front.issue(screen.port)
    seeing = open_console(front, front.issue(screen.port)[0])
    seeing.greet()
    front.order("away", away=True)
    try:
        refused = connection.spend(token)
        assert (refused.status, refused.json()["title"]) == (503, "The cloud cannot be asked just now")
        assert connection.upgrade(f"session={kept_session}", Cookie=cookie).status == 101
        assert connection.closing() == (4503, "The cloud cannot be asked just now")
        # Who is in already goes on seeing.
        seeing.send_frame(2, b"still here")
        assert seeing.data(10) == b"still here"
    finally:
        front.order("away", away=False)
    assert Connection(front).spend(token).status == 200


def test_nobody_listens_at_the_target(front: Front) -> None:
    token, _ = front.issue(1)
    assert open_console(front, token).closing() == (4502, "The virtual machine's screen cannot be reached")


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
def test_a_screen_that_will_not(front: Front, serve: object, password: str | None, code: int) -> None:
    def run(screen: socket.socket) -> None:
        serve(screen)  # type: ignore[operator]
        if code in (4502,):
            screen.shutdown(socket.SHUT_RDWR)
        screen.recv(64)
        screen.recv(64)

    screen = FakeScreen(run)
    token, _ = front.issue(screen.port, password)
    seen, words = open_console(front, token).closing()
    screen.close()
    assert seen == code
    assert len(words) > 20


def test_load_names_who_is_watched(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port)
    watching = open_console(front, token)
    watching.greet()
    for _ in range(150):
        if any(session_id in load["sessions"] for load in front.heard("console.load")):
            break
        threading.Event().wait(0.1)
    else:
        raise AssertionError("the load report never named the session")
    watching.close()


def test_secrets_stay_out_of_the_log(front: Front, screen: FakeScreen) -> None:
    token, session_id = front.issue(screen.port, None)
    connection = Connection(front)
    connection.request("GET", f"/console?cmd=auth&token={token}", Referer=f"{front.origin}/?token={token}")
    connection.request("GET", f"/nothing/{token}?token={token}")
    spent = connection.spend(token)
    connection.upgrade(f"session={session_id}&token2={token}", Cookie=spent.cookie)
    connection.greet()
    cookie = spent.cookie.partition("=")[2]
    log = front.log()
    assert "/console" in log
    assert "/websockify" in log
    assert token not in log
    assert cookie not in log
    assert "PRIVATE KEY" not in log


def test_every_answer_has_its_headers(front: Front) -> None:
    connection = Connection(front)
    for path in ("/console", "/console.js", "/novnc/core/rfb.js", "/nothing", "/websockify", "/"):
        answer = connection.request("GET", path)
        policy = answer.headers["content-security-policy"][0]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert f"wss://127.0.0.1:{front.port}" in policy
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
def test_nothing_but_the_files_themselves(front: Front, path: str) -> None:
    answer = Connection(front).request("GET", path)
    assert answer.status == 404
    assert "location" not in answer.headers


def test_files_are_not_sent_twice(front: Front) -> None:
    connection = Connection(front)
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
    front: Front, screen: FakeScreen, change: dict[str, str | None], status: int
) -> None:
    token, _ = front.issue(screen.port)
    asked = len(front.heard("console.authorize"))
    answer = Connection(front).upgrade(f"token={token}", **change)
    assert answer.status == status
    assert "sec-websocket-protocol" not in answer.headers
    if status != 101:
        assert len(front.heard("console.authorize")) == asked


def test_bytes_behind_an_upgrade_are_refused(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    connection = Connection(front)
    lines = [
        f"GET /websockify?token={token} HTTP/1.1",
        f"Host: 127.0.0.1:{front.port}",
        f"Origin: {front.origin}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
    ]
    connection.send("\r\n".join([*lines, "", ""]).encode() + b"\x82\x80abcd")
    assert connection.answer().status == 400
    assert Connection(front).spend(token).status == 200


@pytest.mark.parametrize("length", ["8193", "999999999999", "-1", "x"])
def test_a_large_body_is_not_taken(front: Front, length: str) -> None:
    connection = Connection(front)
    connection.send(
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{front.port}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    assert connection.answer().status in (400, 413)
    assert connection.tls.recv(1) == b""


def test_a_chunked_body_spends_nothing(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    body = f"token={token}".encode()
    connection = Connection(front)
    connection.send(
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{front.port}\r\nOrigin: {front.origin}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )
    assert connection.answer().status == 413
    assert Connection(front).spend(token).status == 200


def test_each_byte_of_a_request_alone(front: Front, screen: FakeScreen) -> None:
    token, _ = front.issue(screen.port)
    connection = Connection(front)
    body = f"cmd=auth&token={token}"
    request = (
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{front.port}\r\nOrigin: {front.origin}\r\n"
        f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    for byte in request.encode():
        connection.send(bytes([byte]))
    assert connection.answer().status == 200


def test_an_unusable_certificate_changes_nothing(front: Front) -> None:
    with pytest.raises(RuntimeError, match=r"does not name 127\.0\.0\.1"):
        front.set_up("other.example")
    with pytest.raises(RuntimeError, match="no PEM"):
        front.order("setup", origin=front.origin, certificate_pem="", private_key_pem="")
    for wrong in ("http://127.0.0.1:8443", "https://*.consoles.example", "https://127.0.0.1/a//b"):
        with pytest.raises(RuntimeError, match="https"):
            front.order("setup", origin=wrong, certificate_pem="", private_key_pem="")
    assert Connection(front).request("GET", "/console").status == 200
