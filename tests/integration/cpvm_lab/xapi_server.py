# SPDX-License-Identifier: Apache-2.0
"""A protocol peer of a XenServer host as a program: XAPI's JSON-RPC and its consoles at one HTTPS port.

It runs in the network namespace of a test's host. Its one VM shows two colours, and writes the keysyms
that are pressed to a file.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509

from foreign_host_peers import HOST_ADDRESS, XapiPeer
from integration.cpvm_lab.console_process import TOP
from integration.cpvm_lab.screen_tls import ScreenCa
from integration.cpvm_lab.vnc_server import SERVER_INIT, exactly

WIDTH, HEIGHT, HTTPS = 640, 480, 443
_RED, _BLUE = b"\0\0\xff\0", b"\xff\0\0\0"
#: Lengths of a viewer's messages after their type; those with a list have its length there.
_FIXED = {0: 19, 3: 9, 4: 7, 5: 5}


class XenHost:
    """Starts the program in a namespace; `pressed` are the keysyms that reached its screen."""

    def __init__(self, folder: Path, namespace: str) -> None:
        folder.mkdir()
        ca = ScreenCa()
        certificate, key = ca.issue(x509.IPAddress(ip_address(HOST_ADDRESS)))
        (folder / "chain.pem").write_bytes(certificate + key)
        self.ca_pem = ca.pem
        self._keys = folder / "keys"
        ip = ["ip", "-n", namespace, "addr", "add", f"{HOST_ADDRESS}/32", "dev", "lo"]
        subprocess.run(ip, check=True, timeout=60)
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "integration.cpvm_lab.xapi_server"]
        self._process = subprocess.Popen(
            [*command, str(folder)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": f"{TOP}/agents:{TOP}/tests"},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def pressed(self) -> list[int]:
        return [int(line) for line in self._keys.read_text().split()] if self._keys.exists() else []

    def close(self) -> None:
        self._process.kill()
        self._process.wait(timeout=120)


def serve(peer: XapiPeer, connection: ssl.SSLSocket, keys: Path) -> None:
    """Answer one connection: requests of the API, or a console."""
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(connection, 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        method, path, _ = first.split(" ")
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
    while True:
        kind = exactly(connection, 1)[0]
        if kind == 2:  # SetEncodings
            exactly(connection, 4 * int.from_bytes(exactly(connection, 3)[1:], "big"))
        elif kind == 6:  # ClientCutText
            exactly(connection, abs(int.from_bytes(exactly(connection, 7)[3:], "big", signed=True)))
        else:
            body = exactly(connection, _FIXED[kind])
            if kind == 3 and not body[0]:  # the whole screen
                connection.sendall(_picture())
            elif kind == 4 and body[0]:
                with keys.open("a") as file:
                    file.write(f"{int.from_bytes(body[3:], 'big')}\n")


def _picture() -> bytes:
    """Return an update with one raw rectangle, whose upper half is red and whose lower half is blue."""
    rectangle = bytes(4) + WIDTH.to_bytes(2, "big") + HEIGHT.to_bytes(2, "big") + bytes(4)
    half = WIDTH * HEIGHT // 2
    return b"\0\0\0\x01" + rectangle + _RED * half + _BLUE * half


def main(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem")
    peer = XapiPeer()
    peer.certificates = dict.fromkeys(
        peer.hosts, (folder / "chain.pem").read_text().partition("-----BEGIN P")[0]
    )
    listening = socket.create_server((HOST_ADDRESS, HTTPS))
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    def run(raw: Any) -> None:
        with suppress(OSError, EOFError), context.wrap_socket(raw, server_side=True) as connection:
            serve(peer, connection, folder / "keys")

    while True:
        raw, _ = listening.accept()
        threading.Thread(target=run, args=(raw,), daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
