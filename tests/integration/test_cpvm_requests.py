# SPDX-License-Identifier: Apache-2.0
"""HTTP requests to a console: origins, hosts, paths, headers, bodies and upgrades."""

from __future__ import annotations

import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console, screen
from integration.cpvm_lab.vnc_server import FakeVncServer
from integration.cpvm_lab.wire import Connection

pytestmark = pytest.mark.timeout(60)

__all__ = ["console", "screen"]  # fixtures


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", None, "https://127.0.0.1", "http://127.0.0.1:{port}", ""]
)
def test_a_foreign_origin_is_refused_and_uses_no_token(
    console: ConsoleProcess, screen: FakeVncServer, origin: str | None
) -> None:
    token, session_id = console.issue(screen.port)
    header = origin.format(port=console.port) if origin is not None else None
    connection = Connection(console)
    refused = connection.spend(token, Origin=header)
    assert refused.status == 403
    assert refused.json()["title"] == "Another web site tried to open this console"
    if origin is not None:
        assert Connection(console).upgrade(f"token={token}", Origin=header).status == 403
    spent = connection.spend(token)
    assert spent.status == 200
    # Only a browser has a cookie, and a browser sends its origin.
    assert connection.upgrade(f"session={session_id}", Origin=header, Cookie=spent.cookie).status == 403


def test_a_cross_site_fetch_is_refused_with_any_origin(
    console: ConsoleProcess, screen: FakeVncServer
) -> None:
    token, _ = console.issue(screen.port)
    assert Connection(console).spend(token, Sec_Fetch_Site="cross-site").status == 403
    assert Connection(console).spend(token, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:{port}", "a@127.0.0.1:{port}"]
)
def test_a_wrong_host_header_is_misdirected(console: ConsoleProcess, host: str) -> None:
    connection = Connection(console)
    answer = connection.request("GET", "/console", host=host.format(port=console.port))
    assert answer.status == 421
    assert b"served under another address" in answer.body
    # The console did not learn an origin from the request.
    assert connection.spend("x", Origin="https://evil.example").status == 403


def test_two_origins_are_refused(console: ConsoleProcess, screen: FakeVncServer) -> None:
    token, _ = console.issue(screen.port)
    connection = Connection(console)
    answer = connection.request(
        "POST",
        "/console",
        f"token={token}".encode(),
        Origin=f"{console.origin}\r\nOrigin: {console.origin}",
    )
    assert answer.status == 403


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


def test_every_response_has_security_headers(console: ConsoleProcess) -> None:
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
def test_only_known_paths_are_served(console: ConsoleProcess, path: str) -> None:
    answer = Connection(console).request("GET", path)
    assert answer.status == 404
    assert "location" not in answer.headers


def test_an_unchanged_file_is_not_sent_again(console: ConsoleProcess) -> None:
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
def test_an_invalid_upgrade_is_refused(
    console: ConsoleProcess, screen: FakeVncServer, change: dict[str, str | None], status: int
) -> None:
    token, _ = console.issue(screen.port)
    calls = len(console.calls_of("console.authorize"))
    answer = Connection(console).upgrade(f"token={token}", **change)
    assert answer.status == status
    assert "sec-websocket-protocol" not in answer.headers
    if status != 101:
        assert len(console.calls_of("console.authorize")) == calls


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
def test_a_large_body_is_refused(console: ConsoleProcess, length: str) -> None:
    connection = Connection(console)
    connection.send(
        f"POST /console HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    assert connection.answer().status in (400, 413)
    assert connection.tls.recv(1) == b""


def test_a_chunked_body_uses_no_token(console: ConsoleProcess, screen: FakeVncServer) -> None:
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


def test_a_request_can_arrive_byte_by_byte(console: ConsoleProcess, screen: FakeVncServer) -> None:
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
