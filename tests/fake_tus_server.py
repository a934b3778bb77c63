# SPDX-License-Identifier: Apache-2.0
"""A server for uploads by tus 1.0 over TLS, with faults that the SSVM's own would need luck for.

It stands for an SSVM where a test is about the browser: it stops reading and refuses on demand.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme
from attrs import define, field

PIECE_BYTES = 64 * 1024
_CORS = {
    "Access-Control-Allow-Methods": "POST, HEAD, PATCH, OPTIONS",
    "Access-Control-Allow-Headers": "x-signature, x-metadata, x-expires, tus-resumable, upload-length, "
    "upload-offset, content-type",
    "Access-Control-Expose-Headers": "upload-offset, upload-length, tus-resumable, location, retry-after",
}


@define(eq=False)
class Upload:
    """One file as far as it has come."""

    length: int
    data: bytearray = field(factory=bytearray)
    lock: threading.Lock = field(factory=threading.Lock)


@define(eq=False)
class FakeTusServer:
    """What the server has, what it was asked, and what it is to do next."""

    port: int = 0
    signature: str = "c2lnbmF0dXJl"
    uploads: dict[str, Upload] = field(factory=dict)
    requests: list[tuple[str, str]] = field(factory=list)  # method, its Upload-Offset
    #: Statuses of the next PATCH requests.
    refusals: list[int] = field(factory=list)
    #: Stop reading once a file has so many bytes.
    hold_at: int | None = None
    released: threading.Event = field(factory=threading.Event)

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def parameters(self, template_id: str) -> dict[str, str]:
        return {
            "id": template_id,
            "postURL": f"{self.origin}/upload/{template_id}",
            "metadata": "bWV0YWRhdGE=",
            "expires": "2030-01-01T00:00:00Z",
            "signature": self.signature,
        }

    def methods(self) -> list[str]:
        return [method for method, _ in self.requests]

    def hold(self, at: int) -> None:
        self.released.clear()
        self.hold_at = at

    def release(self) -> None:
        self.hold_at = None
        self.released.set()


@contextmanager
def fake_tus_server(authority: trustme.CA) -> Iterator[FakeTusServer]:
    state = FakeTusServer()

    class Handler(_Handler):
        tus = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="tus", daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    tus: FakeTusServer
    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, headers: dict[str, Any] | None = None, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        origin = {"Access-Control-Allow-Origin": self.headers.get("Origin", "*"), "Tus-Resumable": "1.0.0"}
        for name, value in {**_CORS, **origin, **(headers or {}), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _is_signed(self) -> bool:
        """Note the request; answer it when its signature is wrong."""
        self.tus.requests.append((self.command, self.headers.get("Upload-Offset", "")))
        if self.headers.get("X-signature") == self.tus.signature:
            return True
        self._answer(400, text="signature validation failed.")
        return False

    def do_OPTIONS(self) -> None:
        self._answer(204)

    def do_HEAD(self) -> None:
        if self.path == "/":  # a browser tries whether it trusts the certificate
            self._answer(404)
        elif self._is_signed():
            upload = self.tus.uploads.get(self.path)
            known = {"Upload-Defer-Length": 1} if upload is None else {"Upload-Length": upload.length}
            self._answer(200, {"Upload-Offset": len(upload.data) if upload else 0, **known})

    def do_POST(self) -> None:
        if not self._is_signed():
            return
        self.tus.uploads[self.path] = Upload(int(self.headers["Upload-Length"]))
        self._answer(201, {"Location": self.path})

    def do_PATCH(self) -> None:
        if not self._is_signed():
            return
        upload = self.tus.uploads[self.path]
        if self.tus.refusals:
            self._refuse(self.tus.refusals.pop(0), "image is not QCOW2: it is a picture")
            return
        if not upload.lock.acquire(blocking=False):
            self._refuse(423)
            return
        try:
            if int(self.headers["Upload-Offset"]) != len(upload.data):
                self._refuse(409)
                return
            self._receive(upload, int(self.headers["Content-Length"]))
        finally:
            upload.lock.release()

    def _refuse(self, status: int, text: str = "") -> None:
        """Take the body first: a browser that still sends one does not read the response."""
        left = int(self.headers["Content-Length"])
        while left and (piece := self.rfile.read(min(PIECE_BYTES, left))):
            left -= len(piece)
        self._answer(status, text=text)

    def _receive(self, upload: Upload, left: int) -> None:
        while left:
            hold_at = self.tus.hold_at
            if hold_at is not None and len(upload.data) >= hold_at:
                self.tus.released.wait()
            try:
                piece = self.rfile.read(min(PIECE_BYTES, left))
            except OSError:
                piece = b""
            if not piece:
                self.close_connection = True
                return
            upload.data += piece
            left -= len(piece)
        self._answer(204, {"Upload-Offset": len(upload.data)})

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
