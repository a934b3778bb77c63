# SPDX-License-Identifier: Apache-2.0
"""A misbehaving web server on the cloud's public network, for what nginx cannot be made to serve.

It runs as a process of its own inside the source's namespace, so that the SSVM reaches it as any server.
"""

from __future__ import annotations

import http.server
import socket
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from systemvm.lab.plan import SOURCE

if TYPE_CHECKING:
    from systemvm.lab.cloud import Cloud

PORT = 8081
MIB = 1024 * 1024


def qcow2(backing: bytes = b"", virtual_bytes: int = 64 * MIB) -> bytes:
    """Return a valid version 3 header (docs/interop/qcow2.txt of QEMU), followed by clusters."""
    offset = 104 if backing else 0
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, offset, len(backing), 16, virtual_bytes, 0, 1, 196608, 65536,
        1, 0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
    return (header + backing).ljust(4 * 65536, b"\0")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    slow = True

    def do_GET(self) -> None:
        handler = getattr(self, "get_" + self.path.lstrip("/").split(".")[0].replace("-", "_"), None)
        if handler is None:
            self.send_error(404)
        else:
            handler()

    def body(self, data: bytes, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def get_truncated(self) -> None:
        data = qcow2()
        self.body(data[: len(data) // 2], length=len(data))
        self.close_connection = True

    def get_longer(self) -> None:
        """Announce more than it sends, then keep the connection half closed."""
        data = qcow2()
        self.body(data, length=len(data) + 7)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def get_backing(self) -> None:
        self.body(qcow2(backing=b"/etc/passwd"))

    def get_page(self) -> None:
        self.body(b"<!doctype html><title>Log in</title>" + b" " * 4096)

    def get_huge(self) -> None:
        """Send more than the store can hold, without zeros, which would become holes."""
        size = 400 * MIB
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        block = b"\xa5" * MIB
        for _ in range(size // MIB):
            self.wfile.write(block)

    def get_slow(self) -> None:
        size = 40 * MIB
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for _ in range(size // (256 * 1024)):
            self.wfile.write(b"\x5a" * 256 * 1024)
            if Handler.slow:
                time.sleep(0.4)  # this path serves a slow link

    def get_fast(self) -> None:
        Handler.slow = False
        self.body(b"ok")

    def get_to_loopback(self) -> None:
        self.redirect("http://127.0.0.1:8080/x.qcow2")

    def get_to_storage(self) -> None:
        self.redirect("http://10.12.0.2:2049/x.qcow2")

    def log_message(self, *_: object) -> None:
        """Log nothing: the test prints what matters."""


class HostileServer:
    """Run the server in the source's namespace for the length of a block."""

    def __init__(self, lab: Cloud) -> None:
        self.address = str(SOURCE.address.ip)
        self.url = f"http://{self.address}:{PORT}"
        self._inside = ["ip", "netns", "exec", lab.plan.namespace_of(SOURCE)]

    def __enter__(self) -> HostileServer:
        self.process = subprocess.Popen(
            [*self._inside, sys.executable, __file__, self.address],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"
        return self

    def stop_being_slow(self) -> None:
        command = [*self._inside, "curl", "-sS", "--max-time", "120", f"{self.url}/fast"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(120)


def main() -> None:
    with http.server.ThreadingHTTPServer((sys.argv[1], PORT), Handler) as server:
        print("listening", flush=True)  # noqa: T201 — the parent waits for this line
        server.serve_forever()


if __name__ == "__main__":
    main()
