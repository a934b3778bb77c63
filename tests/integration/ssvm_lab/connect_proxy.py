# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy that opens tunnels only. Run as a program: arguments are its ADDRESS:PORT and a journal.

It resolves no names itself: `proxied.example.test`, which no name server knows, is 203.0.113.10. Each request
is written to the journal as it was received. `refused.example.test` is refused, and a login is required.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from pathlib import Path

NAMES = {"proxied.example.test": "203.0.113.10", "images.example.test": "203.0.113.10"}
LOGIN = "Basic bWU6c2VjcmV0"  # me:secret


def copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def serve(client: socket.socket, journal: Path) -> None:
    with client, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(65536)):
            head += data
        with journal.open("ab") as file:
            file.write(head)
        if b"Proxy-Authorization: " + LOGIN.encode() not in head:
            client.sendall(b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        if host == "refused.example.test":
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection((NAMES.get(host, host.strip("[]")), int(port)), 60) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()


def main() -> None:
    address, _, port = sys.argv[1].rpartition(":")
    with socket.create_server((address, int(port)), backlog=64) as listening:
        while True:
            client, _ = listening.accept()
            threading.Thread(target=serve, args=(client, Path(sys.argv[2])), daemon=True).start()


if __name__ == "__main__":
    main()
