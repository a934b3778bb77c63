# SPDX-License-Identifier: Apache-2.0
"""The filter against QEMU's own VNC server: each encoding is followed to the byte, and policies hold."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest

from integration.cpvm_lab.vnc_server import QemuVncServer, free_vnc_port
from rfb_decoder import PIXEL_FORMAT, RfbDecoder
from systemvm.cpvm.filter.encodings import Encoding
from systemvm.cpvm.filter.server_messages import FullUpdate
from systemvm.cpvm.filter.session_filter import SessionFilter
from systemvm.cpvm.recording.messages import RecordingBegin
from systemvm.cpvm.recording.recorded_stream import ScreenMessages
from systemvm.cpvm.server_handshake import ServerHandshake
from systemvm.wire.console import ConsoleKind, ConsolePolicy
from systemvm.wire.recording import RecordingOrder

pytestmark = pytest.mark.timeout(300)

#: 320 by 200 pixels in 64 greys: a slope above, and noise of a linear congruential generator below.
PICTURE = bytes.fromhex(
    "b81300 cd10 bac803 30c0 ee 42 31c9 88c8 c0e802 ee ee ee 41 80f900 75f2"  # the palette of greys
    "6800a0 07 31ff bb3930"
    "89f8 88e0 81ff007d 7207 69db6d4e 43 88f8 aa 81ff00fa 72e8"  # from half of the screen on: noise
    "f4 ebfd"
)
PSEUDO = [
    Encoding.DESKTOP_SIZE,
    Encoding.EXTENDED_DESKTOP_SIZE,
    Encoding.LAST_RECT,
    Encoding.CURSOR,
    Encoding.LED_STATE,
    Encoding.DESKTOP_NAME,
    Encoding.QEMU_EXTENDED_KEY_EVENT,
    Encoding.XVP,
    Encoding.FENCE,
    Encoding.CONTINUOUS_UPDATES,
]
NO_TEXT = ConsolePolicy(clipboard_from_guest=False)


class Viewer:
    """A viewer behind the filter; a decoder reads what passes, and must agree at every piece."""

    def __init__(
        self, port: int, encodings: list[int], on_full_update: Callable[[FullUpdate], None] | None
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        handshake = ServerHandshake(None)
        while not handshake.done:
            self._socket.sendall(handshake.receive(self._socket.recv(4096)))
        screen = handshake.server_init
        self._pieces = random.Random(port + sum(encodings))
        self.filter = SessionFilter(NO_TEXT, screen, is_recorded=on_full_update is not None)
        # a recorder follows the same bytes in a process of its own
        size = (screen.width_px, screen.height_px)
        begin = RecordingBegin(RecordingOrder("", "", 0), ConsoleKind.SCREEN, *size, PIXEL_FORMAT)
        self.followed = ScreenMessages(begin)
        self._on_full_update = on_full_update
        self.decoder = RfbDecoder(screen.width_px, screen.height_px)
        wanted = [*encodings, *PSEUDO]
        announced = b"".join(number.to_bytes(4, "big", signed=True) for number in wanted)
        self.send(b"\0\0\0\0" + PIXEL_FORMAT)
        self.send(b"\x02\0" + len(wanted).to_bytes(2, "big") + announced)

    def send(self, data: bytes) -> None:
        self._socket.sendall(self.filter.from_browser(data))

    def request(self, *, incremental: bool = False) -> None:
        height, width = self.decoder.pixels.shape[:2]
        size = width.to_bytes(2, "big") + height.to_bytes(2, "big")
        self.send(bytes((3, incremental)) + bytes(4) + size)

    def receive(self, updates: int) -> None:
        """Receive until so many updates were complete."""
        while self.decoder.updates < updates or not self.decoder.is_between:
            data = self._socket.recv(self._pieces.choice((1, 7, 100, 4096, 65536)))
            assert data
            passed = b"".join(bytes(piece) for piece in self.filter.from_server(data))
            assert passed == data  # nothing of QEMU's is forbidden or withheld here
            self.decoder.feed(passed)
            assert self.followed.feed(passed) == passed
            assert self.followed.is_between == self.decoder.is_between
            for update in self.followed.full_updates():
                if self._on_full_update is not None:
                    self._on_full_update(update)

    def receive_screen(self) -> None:
        """Receive until an update with pixels was complete; QEMU sends sizes, lights and names in others."""
        self.decoder.kinds.clear()
        while not self.decoder.kinds:
            self.receive(self.decoder.updates + 1)

    def close(self) -> None:
        self._socket.close()


def picture(
    port: int, encodings: list[int], on_full_update: Callable[[FullUpdate], None] | None = None
) -> RfbDecoder:
    """Return the screen after two full updates."""
    viewer = Viewer(port, encodings, on_full_update)
    try:
        for _ in range(2):
            viewer.request()
            viewer.receive_screen()
    finally:
        viewer.close()
    return viewer.decoder


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuVncServer]:
    disk: Path = tmp_path_factory.mktemp("disk") / "picture.raw"
    disk.write_bytes(PICTURE.ljust(510, b"\0") + b"\x55\xaa" + bytes(2 << 20))
    port = free_vnc_port()
    qemu = QemuVncServer(None, port, display=f"127.0.0.1:{port - 5900}", disk=disk)
    while not is_drawn(picture(port, [Encoding.RAW])):
        assert qemu.process.poll() is None
    yield qemu
    qemu.close()


def is_drawn(screen: RfbDecoder) -> bool:
    return len(numpy.unique(screen.pixels)) >= 60


LOSSLESS: dict[str, list[int]] = {
    "raw": [Encoding.RAW],
    "copy": [Encoding.COPY_RECT, Encoding.RAW],
    "hextile": [Encoding.HEXTILE],
    "zlib": [Encoding.ZLIB],
    "ZRLE": [Encoding.ZRLE],
    "Tight": [Encoding.TIGHT],
    "TightPNG": [Encoding.TIGHT_PNG],
    "noVNC": [1, 50, 7, -260, 16, 21, 5, 2, 6, 0],
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_each_encoding_of_qemu_is_followed_to_the_byte(qemu: QemuVncServer, name: str) -> None:
    expected = picture(qemu.port, [Encoding.RAW])
    screen = picture(qemu.port, LOSSLESS[name])
    assert is_drawn(screen) and (screen.pixels == expected.pixels).all()
    kinds = {
        "hextile": {"hextile"}, "zlib": {"zlib"}, "ZRLE": {"ZRLE"}, "TightPNG": {"PNG"}, "raw": {"raw"},
    }.get(name, set())  # fmt: skip
    assert kinds <= screen.kinds


def test_full_updates_of_qemu_are_found(qemu: QemuVncServer) -> None:
    """A recorded session has no streams of zlib, and each full update can be played from."""
    full: list[FullUpdate] = []
    screen = picture(qemu.port, [1, 7, -260, 16, 5, 6, 0], full.append)
    height, width = screen.pixels.shape[:2]
    assert len(full) >= 2 and {(update.width_px, update.height_px) for update in full} == {(width, height)}
    assert screen.kinds and screen.kinds <= {"PNG", "fill", "JPEG"}
