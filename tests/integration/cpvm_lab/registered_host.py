# SPDX-License-Identifier: Apache-2.0
"""A host that operators register, as a program at port 443 of addresses in the namespace of a test's host.

Its one VM shows two colours, and writes the keysyms that are pressed to a file.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from integration.cpvm_lab.console_process import TOP
from integration.cpvm_lab.hypervisor_peers import Screen
from integration.cpvm_lab.screen_tls import ScreenCa
from integration.cpvm_lab.vnc_server import exactly
from systemvm.management.foreign_hosts.access import colons

WIDTH, HEIGHT, HTTPS = 640, 480, 443
#: In the format that noVNC asks for.
_RED, _BLUE = b"\xff\0\0\0", b"\0\0\xff\0"
#: Lengths of a viewer's messages after their type; those with a list have its length there.
_FIXED = {0: 19, 3: 9, 4: 7, 5: 5}


class RegisteredHost:
    """Starts `module` in a namespace; `pressed` are the keysyms that reached its screen."""

    def __init__(self, module: str, folder: Path, namespace: str, *addresses: str) -> None:
        folder.mkdir()
        ca = ScreenCa()
        self.ca_pem = ca.pem
        for address in addresses:
            certificate, key = ca.issue(x509.IPAddress(ip_address(address)))
            (folder / f"{address}.pem").write_bytes(certificate + key)
            ip = ["ip", "-n", namespace, "addr", "add", f"{address}/32", "dev", "lo"]
            subprocess.run(ip, check=True, timeout=60)
        self._first = folder / f"{addresses[0]}.pem"
        self._keys = folder / "keys"
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", f"integration.cpvm_lab.{module}"]
        self._process = subprocess.Popen(
            [*command, str(folder)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": f"{TOP}/agents:{TOP}/tests"},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    @property
    def fingerprint(self) -> str:
        """Return that of its API's certificate, as a host shows it."""
        der = ssl.PEM_cert_to_DER_cert(certificate_of(self._first))
        return colons(hashlib.sha256(der).hexdigest())

    def pressed(self) -> list[int]:
        return [int(line) for line in self._keys.read_text().split()] if self._keys.exists() else []

    def close(self) -> None:
        self._process.kill()
        self._process.wait(timeout=120)


def certificate_of(chain: Path) -> str:
    return chain.read_text().partition("-----BEGIN P")[0]


def request(connection: ssl.SSLSocket) -> tuple[str, str, dict[str, str]]:
    """Read a request's head, byte for byte: what follows belongs to another protocol."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(connection, 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(": ") for line in lines if line)
    return method, path, {name.lower(): value for name, _, value in pairs}


def show_two_colours(screen: Screen, keys: Path) -> None:
    """Serve a viewer after the handshake, until it leaves."""
    while True:
        kind = exactly(screen, 1)[0]
        if kind == 2:  # SetEncodings
            exactly(screen, 4 * int.from_bytes(exactly(screen, 3)[1:], "big"))
        elif kind == 6:  # ClientCutText
            exactly(screen, abs(int.from_bytes(exactly(screen, 7)[3:], "big", signed=True)))
        else:
            body = exactly(screen, _FIXED[kind])
            if kind == 3 and not body[0]:  # the whole screen
                screen.sendall(_picture())
            elif kind == 4 and body[0]:
                with keys.open("a") as file:
                    file.write(f"{int.from_bytes(body[3:], 'big')}\n")


def _picture() -> bytes:
    """Return an update with one raw rectangle, whose upper half is red and whose lower half is blue."""
    rectangle = bytes(4) + WIDTH.to_bytes(2, "big") + HEIGHT.to_bytes(2, "big") + bytes(4)
    half = WIDTH * HEIGHT // 2
    return b"\0\0\0\x01" + rectangle + _RED * half + _BLUE * half


def listen(folder: Path, serve: Callable[[ssl.SSLSocket], None]) -> None:
    """Serve HTTPS at each address that the folder has a certificate of, a thread for each connection."""

    def run(raw: socket.socket, context: ssl.SSLContext) -> None:
        with suppress(OSError, EOFError), context.wrap_socket(raw, server_side=True) as connection:
            serve(connection)

    def accept(listening: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            raw, _ = listening.accept()
            threading.Thread(target=run, args=(raw, context), daemon=True).start()

    threads = []
    for chain in sorted(folder.glob("*.pem")):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        listening = socket.create_server((chain.stem, HTTPS))
        threads.append(threading.Thread(target=accept, args=(listening, context), daemon=True))
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for thread in threads:
        thread.join()
