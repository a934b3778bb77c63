# SPDX-License-Identifier: Apache-2.0
"""A protocol peer of a VNC server whose guest takes the size that a viewer asks for."""

from __future__ import annotations

import socket
from threading import Condition

from integration.cpvm_lab.vnc_server import FakeVncServer, exactly, shake_hands
from systemvm.service.slowness import scaled_s

_FIRST_SIZE = (64, 48)
_PIXEL_FORMAT = bytes((32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0))
_EXTENDED_DESKTOP_SIZE = (-308).to_bytes(4, "big", signed=True)
_BY_SERVER, _BY_CLIENT = 0, 1
_SET_ENCODINGS, _UPDATE_REQUEST, _KEY, _CUT_TEXT, _SET_DESKTOP_SIZE = 2, 3, 4, 6, 251
#: Lengths of a viewer's messages after their type; those with a list have its length there.
_FIXED = {0: 19, _UPDATE_REQUEST: 9, _KEY: 7, 5: 5}


class ResizableScreen:
    """A screen of two colours; `asked` are the sizes that viewers asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self._pressed: list[int] = []
        self._changed = Condition()
        self._server = FakeVncServer(self._serve)
        self.port = self._server.port
        self.close = self._server.close

    def pressed(self, count: int) -> list[int]:
        """Wait until this many keys were pressed, and return all keysyms."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._pressed) >= count, scaled_s(60.0))
            assert came, f"{len(self._pressed)} of {count} keys came"
            return list(self._pressed)

    def _serve(self, viewer: socket.socket) -> None:
        size = _FIRST_SIZE
        shake_hands(viewer, _two(*size) + _PIXEL_FORMAT + bytes((0, 0, 0, 1)) + b"x")
        is_told = False
        while True:
            kind = exactly(viewer, 1)[0]
            if kind == _SET_ENCODINGS:
                exactly(viewer, 4 * int.from_bytes(exactly(viewer, 3)[1:], "big"))
            elif kind == _CUT_TEXT:
                exactly(viewer, abs(int.from_bytes(exactly(viewer, 7)[3:], "big", signed=True)))
            elif kind == _SET_DESKTOP_SIZE:
                body = exactly(viewer, 7)
                exactly(viewer, 16 * body[5])
                size = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
                self.asked.append(size)
                viewer.sendall(_told(_BY_CLIENT, size) + _picture(size))
            else:
                body = exactly(viewer, _FIXED[kind])
                if kind == _KEY and body[0]:
                    with self._changed:
                        self._pressed.append(int.from_bytes(body[3:], "big"))
                        self._changed.notify_all()
                elif kind == _UPDATE_REQUEST and not body[0]:  # the whole screen
                    viewer.sendall((b"" if is_told else _told(_BY_SERVER, size)) + _picture(size))
                    is_told = True


def _two(first: int, second: int) -> bytes:
    return first.to_bytes(2, "big") + second.to_bytes(2, "big")


def _told(reason: int, size: tuple[int, int]) -> bytes:
    """Return an update that says that there is one screen of this size, and that it can be changed."""
    head = b"\0\0\0\x01" + _two(reason, 0) + _two(*size) + _EXTENDED_DESKTOP_SIZE
    return head + b"\x01\0\0\0" + bytes(8) + _two(*size) + bytes(4)


def _picture(size: tuple[int, int]) -> bytes:
    width, height = size
    half = width * (height // 2)
    pixels = b"\0\0\xff\0" * half + b"\xff\0\0\0" * (width * height - half)
    return b"\0\0\0\x01" + bytes(4) + _two(*size) + bytes(4) + pixels
