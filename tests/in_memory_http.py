# SPDX-License-Identifier: Apache-2.0
"""HTTP without a socket: feed bytes to a site's protocol and return the whole response."""

from __future__ import annotations

import json
from email.parser import BytesParser
from typing import Any
from urllib.parse import urlencode

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.web.server import Site


@frozen
class HttpAnswer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Transport(StringTransport):
    """Fire when the server closes, which `Connection: close` makes it do after its response."""

    def __init__(self, client: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", client, 40000))
        self.closed: Deferred[None] = Deferred()

    def loseConnection(self) -> None:
        super().loseConnection()
        if not self.closed.called:
            self.closed.callback(None)

    def abortConnection(self) -> None:
        self.loseConnection()


async def send(site: Site, raw: bytes, client: str = "192.0.2.7") -> HttpAnswer:
    """Send one raw request and read the response."""
    transport = _Transport(client)
    protocol = site.buildProtocol(IPv4Address("TCP", client, 40000))
    protocol.makeConnection(transport)
    protocol.dataReceived(raw)
    await transport.closed
    head, _, body = transport.value().partition(b"\r\n\r\n")
    status_line, _, header_lines = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(header_lines)
    return HttpAnswer(int(status_line.split()[1]), headers, body)


async def request(
    site: Site,
    method: str,
    target: str,
    form: dict[str, str] | bytes | None = None,
    headers: dict[str, str] | None = None,
    client: str = "192.0.2.7",
) -> HttpAnswer:
    body = urlencode(form).encode() if isinstance(form, dict) else (form or b"")
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1:8080", "Connection: close"]
    if form is not None:
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return await send(site, "\r\n".join(lines).encode() + b"\r\n\r\n" + body, client)
