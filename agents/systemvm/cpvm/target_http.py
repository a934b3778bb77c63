# SPDX-License-Identifier: Apache-2.0
"""The HTTP exchange before RFB, without I/O: XAPI's CONNECT, and the upgrade to a WebSocket."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping

from attrs import field, frozen

from systemvm.cpvm.rfb import PasswordRefusedError
from systemvm.cpvm.websocket import SUBPROTOCOL, accept_key
from systemvm.service.rfb_handshake import RfbError

MAX_HEAD_BYTES = 8192

_PATH = re.compile(r"/[!-~]{0,2047}")
_SESSION_ID = re.compile(r"[A-Za-z0-9:_.-]{1,256}")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: .*)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@frozen
class HypervisorResponse:
    """A status and headers with names in lower case; `rest` are the bytes that followed them."""

    status: int
    headers: Mapping[str, str]
    rest: bytes = field(repr=False)


class HeadReader:
    """Collects the head of a response."""

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> HypervisorResponse | None:
        """Return the head when it is complete.

        Raises: RfbError when it is malformed or longer than MAX_HEAD_BYTES.
        """
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES:
            raise RfbError(f"head of the HTTP response is too long: the maximum is {MAX_HEAD_BYTES} bytes")
        return _parse(head.decode("latin-1"), rest) if end else None


def _parse(text: str, rest: bytes) -> HypervisorResponse:
    first, *lines = text.split("\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise RfbError("peer did not send an HTTP response")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise RfbError("HTTP response has a malformed header")
        # repeated headers are one list (RFC 9110 5.3)
        known = headers.get(name.lower())
        headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
    return HypervisorResponse(int(status[1]), headers, rest)


def connect_request(path: str, host: str, session_id: str | None) -> bytes:
    """Return XAPI's request for a console; XenServer and XCP-ng answer 200, then RFB follows.

    Raises: RfbError when the path or session cannot be part of a request.
    """
    if session_id is None or not _SESSION_ID.fullmatch(session_id):
        raise RfbError("session of XAPI is missing or malformed")
    lines = [f"CONNECT {_checked(path)} HTTP/1.0", f"Host: {host}", f"Cookie: session_id={session_id}"]
    return "\r\n".join([*lines, "", ""]).encode()


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(16)).decode()


def upgrade_request(path: str, host: str, key: str) -> bytes:
    """Return the client's part of the WebSocket handshake (RFC 6455 4.1).

    Raises: RfbError when the path cannot be part of a request.
    """
    lines = [
        f"GET {_checked(path)} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def check_connected(head: HypervisorResponse) -> None:
    """Check the answer to CONNECT.

    Raises: PasswordRefusedError when the session is not valid, RfbError for any other refusal.
    """
    _check_status(head, 200)


def check_upgraded(head: HypervisorResponse, key: str) -> None:
    """Check the server's part of the WebSocket handshake.

    Raises: PasswordRefusedError when the ticket is not valid, RfbError when it is no WebSocket of RFB.
    """
    _check_status(head, 101)
    headers = head.headers
    connection = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        raise RfbError("VNC server did not upgrade to a WebSocket")
    if headers.get("sec-websocket-accept") != accept_key(key):
        raise RfbError("VNC server answered with a wrong WebSocket key")
    if "sec-websocket-extensions" in headers:
        raise RfbError("VNC server chose a WebSocket extension that was not offered")
    if headers.get("sec-websocket-protocol", SUBPROTOCOL) != SUBPROTOCOL:
        raise RfbError("VNC server chose a WebSocket protocol that was not offered")


def _check_status(head: HypervisorResponse, wanted: int) -> None:
    if head.status in (401, 403):
        raise PasswordRefusedError(f"hypervisor rejected the session or ticket with status {head.status}")
    if head.status != wanted:
        raise RfbError(f"hypervisor answered with status {head.status}, not {wanted}")


def _checked(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise RfbError("path of the console is missing or malformed")
    return path
