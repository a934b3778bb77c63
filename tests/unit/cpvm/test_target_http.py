# SPDX-License-Identifier: Apache-2.0
"""CONNECT to XAPI and the upgrade to a WebSocket: requests, and answers that are read or refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm import target_http
from systemvm.cpvm.rfb import PasswordRefusedError
from systemvm.cpvm.target_http import HeadReader, HypervisorResponse
from systemvm.service.rfb_handshake import RfbError

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
)
CONNECTED = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nCache-Control: no-cache, no-store\r\n\r\n"


def read(data: bytes) -> HypervisorResponse:
    head = HeadReader().receive(data)
    assert head is not None
    return head


def test_an_answer_is_read_in_any_pieces() -> None:
    for at in range(len(UPGRADED)):
        reader = HeadReader()
        assert reader.receive(UPGRADED[:at]) is None
        head = reader.receive(UPGRADED[at:] + b"RFB")
        assert head is not None
        assert (head.status, head.rest) == (101, b"RFB")
        target_http.check_upgraded(head, KEY)


def test_xapis_answer_is_accepted() -> None:
    target_http.check_connected(read(CONNECTED))


def test_the_request_to_xapi_is_that_of_xencenter() -> None:
    request = target_http.connect_request("/console?uuid=4f1a", "10.1.2.3", "OpaqueRef:1b-2c")
    assert request == (
        b"CONNECT /console?uuid=4f1a HTTP/1.0\r\nHost: 10.1.2.3\r\nCookie: session_id=OpaqueRef:1b-2c\r\n\r\n"
    )


@pytest.mark.parametrize("path", ["", "console", "/a b", "/a\r\nHost: evil", "/\x00", "/" + "x" * 3000, "/ü"])
def test_a_path_cannot_change_the_request(path: str) -> None:
    with pytest.raises(RfbError, match="path"):
        target_http.connect_request(path, "h", "s")
    with pytest.raises(RfbError, match="path"):
        target_http.upgrade_request(path, "h", KEY)


@pytest.mark.parametrize("session", [None, "", "a; b=c", "a\r\nX: y", "x" * 300])
def test_a_session_cannot_change_the_request(session: str | None) -> None:
    with pytest.raises(RfbError, match="session"):
        target_http.connect_request("/console", "h", session)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (UPGRADED.replace(b" 101 ", b" 200 "), RfbError),
        (UPGRADED.replace(b" 101 ", b" 403 "), PasswordRefusedError),
        (UPGRADED.replace(b"Upgrade: websocket", b"Upgrade: h2c"), RfbError),
        (UPGRADED.replace(b"keep-alive, Upgrade", b"keep-alive"), RfbError),
        (UPGRADED.replace(b"s3pP", b"S3pP"), RfbError),
        (UPGRADED.replace(b"Protocol: binary", b"Protocol: base64"), RfbError),
        (
            UPGRADED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            RfbError,
        ),
    ],
)
def test_a_wrong_upgrade_is_refused(answer: bytes, error: type[RfbError]) -> None:
    with pytest.raises(error) as raised:
        target_http.check_upgraded(read(answer), KEY)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, PasswordRefusedError),
        (403, PasswordRefusedError),
        (404, RfbError),
        (302, RfbError),
        (101, RfbError),
    ],
)
def test_a_refused_connect_is_an_error(status: int, error: type[RfbError]) -> None:
    with pytest.raises(error) as raised:
        target_http.check_connected(read(b"HTTP/1.1 %d No\r\n\r\n" % status))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    "answer",
    [
        b"RFB 003.008\n\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 9000,
    ],
)
def test_a_malformed_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(RfbError):
        HeadReader().receive(answer)


@given(st.binary(max_size=300), st.integers(0, len(UPGRADED)))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    for data in (noise, UPGRADED[:at] + noise + UPGRADED[at:]):
        with suppress(RfbError):
            head = HeadReader().receive(data)
            if head is not None:
                target_http.check_upgraded(head, KEY)
