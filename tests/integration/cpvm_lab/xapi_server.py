# SPDX-License-Identifier: Apache-2.0
"""A protocol peer of a XenServer host as a program: XAPI's JSON-RPC and its consoles at one HTTPS port."""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path

from foreign_host_peers import HOST_ADDRESS, XapiPeer
from integration.cpvm_lab.registered_host import (
    RegisteredHost,
    certificate_of,
    listen,
    request,
    show_two_colours,
)
from integration.cpvm_lab.vnc_server import SERVER_INIT, exactly


class XenHost(RegisteredHost):
    """A host at `HOST_ADDRESS`."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__("xapi_server", folder, namespace, HOST_ADDRESS)


def serve(peer: XapiPeer, connection: ssl.SSLSocket, keys: Path) -> None:
    """Answer one connection: requests of the API, or a console."""
    while True:
        method, path, headers = request(connection)
        if method == "CONNECT":
            _console(peer, connection, path, headers, keys)
            return
        text = exactly(connection, int(headers.get("content-length", "0")))
        reply = peer(method, path, json.loads(text) if text else None, headers)
        body = json.dumps(reply.body).encode()
        status = f"HTTP/1.1 {reply.status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection.sendall(status + body)


def _console(
    peer: XapiPeer, connection: ssl.SSLSocket, path: str, headers: dict[str, str], keys: Path
) -> None:
    session = headers.get("cookie", "").removeprefix("session_id=")
    if session not in peer.sessions or not peer.location.endswith(path):
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
        return
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nRFB 003.003\n")
    exactly(connection, 12)
    connection.sendall(b"\0\0\0\x01")
    exactly(connection, 1)
    connection.sendall(SERVER_INIT)
    show_two_colours(connection, keys)


def main(folder: Path) -> None:
    peer = XapiPeer()
    peer.certificates = dict.fromkeys(peer.hosts, certificate_of(folder / f"{HOST_ADDRESS}.pem"))
    listen(folder, lambda connection: serve(peer, connection, folder / "keys"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
