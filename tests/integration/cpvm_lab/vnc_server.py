# SPDX-License-Identifier: Apache-2.0
"""VNC servers: a fake one with a given behaviour, and QEMU's own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from free_ports import free_ports
from systemvm.service.slowness import scaled_s

SERVER_INIT = (
    (640).to_bytes(2, "big") + (480).to_bytes(2, "big") + bytes(range(16)) + (4).to_bytes(4, "big") + b"evil"
)
CLIENT_BYTES = 12 + 1 + 1


def shake_hands(screen: Any, server_init: bytes = SERVER_INIT) -> None:
    """Perform the server's side of RFB 3.8 with security type None."""
    screen.sendall(b"RFB 003.008\n")
    exactly(screen, 12)
    screen.sendall(b"\x01\x01")
    exactly(screen, 1)
    screen.sendall(bytes(4))
    exactly(screen, 1)
    screen.sendall(server_init)


def greet_and_wait(screen: socket.socket) -> None:
    """Greet a viewer, then wait until it sends something or leaves."""
    shake_hands(screen)
    screen.recv(1)


def exactly(peer: Any, count: int) -> bytes:
    """Return `count` bytes of the peer; EOFError when it sends fewer."""
    got = b""
    while len(got) < count:
        data: bytes = peer.recv(count - len(got))
        if not data:
            raise EOFError
        got += data
    return got


class FakeVncServer:
    """Serve each connection with `serve` in a thread, and end all of them on close."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with suppress(OSError, EOFError):
            self._serve(connection)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


class QemuVncServer:
    """A QEMU without a guest system: its firmware's screen, and a VNC password set through QMP."""

    def __init__(
        self,
        password: str | None,
        port: int,
        *,
        display: str | None = None,
        objects: Sequence[str] = (),
        disk: Path | None = None,
        serial: Path | None = None,
    ) -> None:
        """`display` replaces the address in -vnc, with more options; `objects` are values of -object.

        A raw disk is booted at once; without one the firmware shows its boot menu for a minute. `serial` is a
        file of what the guest sends on its first serial port.
        """
        self.port = port
        self._folder = tempfile.mkdtemp(prefix="screen-")
        control = Path(self._folder) / "qmp"
        display = (display or f"127.0.0.1:{port - 5900}") + (",password=on" if password else "")
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64",
                *("-M", "q35", "-accel", "tcg,tb-size=64", "-m", "64", "-nodefaults"),
                *("-device", "VGA"),
                *(("-boot", "menu=on,splash-time=60000") if disk is None else ()),
                *(() if disk is None else ("-drive", f"if=none,id=disk,format=raw,file={disk}")),
                *(() if disk is None else ("-device", "ide-hd,drive=disk")),
                *(argument for value in objects for argument in ("-object", value)),
                *(() if serial is None else ("-serial", f"file:{serial}")),
                *("-display", "none", "-vnc", display),
                *("-qmp", f"unix:{control},server=on,wait=off"),
            ],
            stdin=subprocess.DEVNULL,
        )
        self._qmp = self._connect(control)
        self.command("qmp_capabilities")
        if password:
            self.command("set_password", protocol="vnc", password=password)

    def _connect(self, control: Path) -> Any:
        deadline = time.monotonic() + scaled_s(60.0)
        while True:
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(scaled_s(60.0))
            try:
                peer.connect(str(control))
            except OSError:
                peer.close()
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)
                continue
            lines = peer.makefile("rwb")
            json.loads(lines.readline())
            return lines

    def command(self, name: str, **arguments: Any) -> Any:
        self._qmp.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        self._qmp.flush()
        while True:
            answer = json.loads(self._qmp.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=120)
        self._qmp.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def free_vnc_port() -> int:
    """Return a free port; a VNC display is its number above 5900."""
    [port] = free_ports(1)
    return port
