# SPDX-License-Identifier: Apache-2.0
"""A public server that leads wherever its path says: by redirects, mirrors and registries; and a proxy."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import unquote

FILE = b"x" * 512
MANIFEST = json.dumps(
    {"layers": [{"digest": f"sha256:{hashlib.sha256(FILE).hexdigest()}", "size": len(FILE)}]}
).encode()
METALINK = '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="x">{}</file></metalink>'


def answer(head: str, seen: list[str]) -> bytes:
    """Return the response to a request."""
    method, target = head.split(" ")[:2]
    if method == "CONNECT":
        seen.append(target)
        return b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
    kind, _, rest = target.lstrip("/").partition("/")
    to = unquote(rest).encode("utf-8", "surrogateescape").decode("latin-1")
    if kind == "to":
        return _with("302 Found", location=to)
    if kind == "twice":
        return _with("302 Found", location=f"/to/{rest}")
    if kind == "links":
        url = to.encode("latin-1").decode("utf-8", "replace").replace("&", "&amp;")
        return _with("200 OK", METALINK.format(f"<url>{url}</url>").encode())
    if kind == "linked":
        return _with("200 OK", FILE, link=f"<{to}>; rel=duplicate; pri=1")
    if kind == "v2":
        return _registry(rest, head)
    return _with("200 OK", FILE)


def _registry(rest: str, head: str) -> bytes:
    """`v2/blob/<target>/…` redirects the blob, `v2/realm/<target>/…` demands a token from there."""
    how, hexadecimal, kind = rest.split("/")[:3]
    to = bytes.fromhex(hexadecimal).decode("utf-8", "replace").encode().decode("latin-1")
    if how == "realm":
        quoted = to.replace('"', "")
        return _with("401 Unauthorized", www_authenticate=f'Bearer realm="{quoted}"')
    return _with("302 Found", location=to) if kind == "blobs" else _with("200 OK", MANIFEST)


def _with(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class PublicServer:
    """Serves on several ports until the process ends; `seen` are the targets that the proxy was asked for."""

    def __init__(self, addresses: list[str], certificate: str) -> None:
        self.seen: list[str] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port in (80, 443, 3128):
                listening = socket.create_server((address, port), family=family, backlog=128)
                threading.Thread(target=self._accept, args=(listening, port == 443), daemon=True).start()

    def _accept(self, listening: socket.socket, is_tls: bool) -> None:
        while True:
            client, _ = listening.accept()
            threading.Thread(target=self._serve, args=(client, is_tls), daemon=True).start()

    def _serve(self, client: socket.socket, is_tls: bool) -> None:
        with suppress(OSError, ValueError, IndexError):
            with self._tls.wrap_socket(client, server_side=True) if is_tls else client as connection:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                connection.sendall(answer(head.decode("latin-1"), self.seen))
