# SPDX-License-Identifier: Apache-2.0
"""`systemvm console VM --vnc`: a client of RFB and TigerVNC's viewer see and control a real QEMU."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest

from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.operator_terminal import ENVIRONMENT, DaemonSocket
from integration.cpvm_lab.typewriter import Typewriter
from integration.cpvm_lab.vnc_server import FakeVncServer, free_vnc_port, shake_hands
from rfb_decoder import PIXEL_FORMAT, RfbDecoder
from systemvm.cpvm.rfb import PasswordRefusedError
from systemvm.cpvm.server_handshake import ServerHandshake

pytestmark = pytest.mark.timeout(240)

KEY_A = 0x61


class Lab:
    """A console process and a machine with a screen."""

    def __init__(self, folder: Path, console: ConsoleProcess, typewriter: Typewriter) -> None:
        self.console = console
        self.typewriter = typewriter
        self.screen: tuple[int, str | None] = (typewriter.screen.port, "secret88")
        self.sessions: list[str] = []
        self.daemon = DaemonSocket(folder / "root", console, self._issue)

    def _issue(self, asked: dict[str, Any]) -> str:
        token, session = self.console.issue(*self.screen)
        self.sessions.append(session)
        return token


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("vnc")
    console = ConsoleProcess(folder)
    typewriter = Typewriter(folder, free_vnc_port(), "secret88")
    lab = Lab(folder / "d", console, typewriter)
    yield lab
    lab.daemon.close()
    typewriter.close()
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


class Bridge:
    """The command in a process; `address` is where it listens."""

    def __init__(self, lab: Lab, *options: str, environment: dict[str, str] | None = None) -> None:
        command = lab.daemon.command("web-1", "--vnc", *options)
        command.insert(command.index("console"), "--json")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | (environment or {}),
        )
        assert self.process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}":
            line = self.process.stdout.readline()
            assert line, self.process.stderr and self.process.stderr.read()
            lines.append(line.rstrip())
        told = json.loads("".join(lines))
        self.address: str = told["address"]
        self.password: str | None = told["password"]

    def says(self, text: str) -> None:
        """Wait until it has said something to its user."""
        assert self.process.stderr is not None
        while text not in (line := self.process.stderr.readline()):
            assert line, f"it ended with {self.process.wait()} and has not said {text!r}"

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=240)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=120)


@contextmanager
def bridge(lab: Lab, *options: str, **more: Any) -> Iterator[Bridge]:
    one = Bridge(lab, *options, **more)
    try:
        yield one
    finally:
        one.close()


class Viewer:
    """A viewer made of a socket, with the handshake that the console proxy has with VNC servers."""

    def __init__(self, address: str, password: str | None) -> None:
        if address.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address)
        else:
            host, _, port = address.partition("::")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(120)
        handshake = ServerHandshake(password)
        try:
            while not handshake.done:
                data = self.socket.recv(65536)
                if not data:
                    raise EOFError
                if answer := handshake.receive(data):
                    self.socket.sendall(answer)
        except BaseException:
            self.socket.close()  # the bridge serves one viewer at a time
            raise
        self.init = handshake.server_init
        self._rest = handshake.rest()

    def picture(self) -> Any:
        """Ask for the whole screen, and return its pixels."""
        screen = RfbDecoder(self.init.width_px, self.init.height_px)
        raw = (0).to_bytes(4, "big")
        self.socket.sendall(b"\0\0\0\0" + PIXEL_FORMAT + b"\x02\0\0\x01" + raw)
        size = self.init.width_px.to_bytes(2, "big") + self.init.height_px.to_bytes(2, "big")
        self.socket.sendall(b"\x03\0\0\0\0\0" + size)
        screen.feed(self._rest)
        while not (screen.updates and screen.is_between):
            data = self.socket.recv(65536)
            assert data, "the bridge has closed the connection"
            screen.feed(data)
        return screen.pixels

    def press(self, key: int) -> None:
        for down in (1, 0):
            self.socket.sendall(bytes((4, down, 0, 0)) + key.to_bytes(4, "big"))

    def is_closed(self) -> bool:
        """Wait for the end of the connection."""
        while self.socket.recv(65536):
            pass
        return True

    def close(self) -> None:
        self.socket.close()


def test_one_viewer_after_another_sees_and_controls_the_machine(lab: Lab) -> None:
    with bridge(lab) as served:
        assert served.address.startswith("127.0.0.1::")
        assert served.password is not None
        for key in "ab":
            viewer = Viewer(served.address, served.password)
            assert viewer.init.name == "web-1"
            assert viewer.picture().any(), "something is on the screen"
            viewer.press(ord(key))
            assert lab.typewriter.text(1) == key
            with pytest.raises((EOFError, ConnectionError)):
                Viewer(served.address, served.password)
            viewer.close()
            served.says("the viewer has left")
        assert served.interrupt() == 0
    assert len(lab.sessions) == 1, "all viewers share the session"
    assert lab.daemon.asked[-1]["virtualmachineid"] == "m-1"
    assert "kind" not in lab.daemon.asked[-1]


def test_another_user_of_the_host_does_not_get_the_screen(lab: Lab) -> None:
    with bridge(lab) as served:
        with pytest.raises(PasswordRefusedError):
            Viewer(served.address, "guess888")
        served.says("wrong password")
        with pytest.raises((PasswordRefusedError, EOFError)):  # None is chosen before the list
            Viewer(served.address, None)
        viewer = Viewer(served.address, served.password)
        assert viewer.picture().any()


def test_a_unix_socket_is_this_users_and_is_removed(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "screen"
    with bridge(lab, "--socket", str(path)) as served:
        assert (served.address, served.password) == (str(path), None)
        assert path.stat().st_mode & 0o777 == 0o600
        viewer = Viewer(served.address, None)
        assert viewer.picture().any()
        assert served.interrupt() == 0
        assert not path.exists()


def test_after_a_blip_the_next_viewer_has_the_screen_of_the_same_session(lab: Lab) -> None:
    with bridge(lab) as served:
        viewer = Viewer(served.address, served.password)
        assert viewer.picture().any()
        lab.console.order("blip")
        assert viewer.is_closed()
        served.says("reconnecting")
        again = Viewer(served.address, served.password)
        assert again.picture().any()
        session = lab.sessions[-1]
        assert lab.console.order("sessions")[-1:] == [session]
        lab.console.order("end", session_ids=[session], reason="closed", code="closed")
        assert again.is_closed()
        served.says("console of web-1 has ended: this console was closed")
        assert served.process.wait(timeout=240) == 1


def test_a_viewer_that_reads_nothing_costs_bounded_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = threading.Event()

    def flood(screen: socket.socket) -> None:
        shake_hands(screen)
        while select.select([], [screen], [], 2)[1]:
            screen.send(bytes(256 * 1024))
        stalled.set()
        screen.recv(1)

    server = FakeVncServer(flood)
    monkeypatch.setattr(lab, "screen", (server.port, None))
    try:
        with bridge(lab) as served:
            before = resident_kib(served.process.pid)
            viewer = Viewer(served.address, served.password)
            stalled.wait()
            assert resident_kib(served.process.pid) - before < 16 * 1024
            viewer.close()
    finally:
        server.close()


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.skipif(not shutil.which("Xvfb") or not shutil.which("vncviewer"), reason="needs Xvfb, TigerVNC")
def test_tigervnc_is_started_and_shows_the_screen(lab: Lab, tmp_path: Path) -> None:
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(write),
            "-screen",
            "0",
            "1024x768x24",
            "-fbdir",
            str(tmp_path),
            "-nolisten",
            "tcp",
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        display = f":{os.read(read, 16).decode().strip()}"
        with bridge(lab, "--open", environment={"DISPLAY": display, "HOME": str(tmp_path)}) as served:
            served.says("a viewer is connected")
            while not _shows_text(tmp_path / "Xvfb_screen0"):
                assert served.process.poll() is None
                time.sleep(0.1)
            folder = Path(served.address).parent
            assert folder.stat().st_mode & 0o777 == 0o700
            assert served.interrupt() == 0
            assert not folder.exists()
    finally:
        os.close(read)
        server.terminate()
        server.wait(timeout=120)


def _shows_text(framebuffer: Path) -> bool:
    """Return whether the display has as many pixels of the firmware's grey text as a line of it."""
    data = framebuffer.read_bytes()
    pixels = numpy.frombuffer(data[-1024 * 768 * 4 :], numpy.uint8).reshape(-1, 4)[:, :3]
    return int((pixels == 0xA8).all(axis=1).sum() + (pixels == 0xAA).all(axis=1).sum()) > 200
