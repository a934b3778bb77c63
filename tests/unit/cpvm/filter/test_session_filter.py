# SPDX-License-Identifier: Apache-2.0
"""The filter of a session by its policy, and the VNC server's stream behind it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.filtered_stream import FilteredStream
from systemvm.cpvm.filter.session_filter import SessionFilter
from systemvm.cpvm.rfb import ServerInit
from systemvm.cpvm.target_stream import PlainStream
from systemvm.wire.console import ConsolePolicy
from unit.cpvm.filter.rfb_samples import CLIENT, HEIGHT, PIXEL_FORMAT, SERVER, WIDTH, u16

SCREEN = ServerInit(WIDTH, HEIGHT, PIXEL_FORMAT, "web")


def test_a_server_is_read_only_where_its_text_is_forbidden() -> None:
    assert not SessionFilter(ConsolePolicy(view_only=True), SCREEN).reads_server
    assert not SessionFilter(ConsolePolicy(clipboard_to_guest=False), SCREEN).reads_server
    assert SessionFilter(ConsolePolicy(clipboard_from_guest=False), SCREEN).reads_server


def test_a_viewer_sends_no_text_even_where_the_clipboard_is_free() -> None:
    viewing = SessionFilter(ConsolePolicy(view_only=True), SCREEN)
    assert viewing.from_browser(CLIENT["cut text"] + CLIENT["key"] + CLIENT["request"]) == CLIENT["request"]
    assert viewing.from_server(SERVER["cut text"]) == [SERVER["cut text"]]


def test_a_pixel_format_matters_only_where_the_server_is_read() -> None:
    strange = ServerInit(WIDTH, HEIGHT, bytes(range(16)), "web")
    SessionFilter(ConsolePolicy(view_only=True), strange)
    with pytest.raises(FilterError) as failed:
        SessionFilter(ConsolePolicy(clipboard_from_guest=False), strange)
    assert failed.value.fault is FilterFault.PIXEL_FORMAT


def test_a_full_update_is_requested_between_messages_of_the_browser() -> None:
    recorded = SessionFilter(ConsolePolicy(), SCREEN, is_recorded=True)
    assert recorded.full_update_request(WIDTH, HEIGHT) == b""
    recorded.from_browser(CLIENT["pixel format"] + CLIENT["encodings"] + CLIENT["request"])
    assert recorded.full_update_request(WIDTH, HEIGHT) == b"\x03\0" + bytes(4) + u16(WIDTH) + u16(HEIGHT)
    recorded.from_browser(CLIENT["cut text"][:-1])
    assert recorded.full_update_request(WIDTH, HEIGHT) == b""


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


class Received:
    """A target whose server may send no text, and what it received."""

    def __init__(self, near: socket.socket) -> None:
        self.faults: list[FilterError] = []
        passed = SessionFilter(ConsolePolicy(clipboard_from_guest=False), SCREEN).from_server
        self.target = FilteredStream(PlainStream(near), passed, self.faults.append)
        self.buffer = bytearray(1 << 16)

    def next(self) -> bytes:
        return bytes(self.buffer[: self.target.read_into(memoryview(self.buffer))])


def test_text_is_cut_out_of_what_is_received(sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = sockets
    received = Received(near)
    far.sendall(
        SERVER["bell"] + SERVER["cut text"] + SERVER["tight fill"] + SERVER["provide"] + SERVER["raw"]
    )
    assert received.next() == SERVER["bell"] + SERVER["tight fill"] + SERVER["raw"]
    far.sendall(SERVER["raw"])
    assert received.next() == SERVER["raw"]
    far.sendall(SERVER["cut text"])
    with pytest.raises(BlockingIOError):
        received.next()
    far.sendall(SERVER["caps"][:9])
    with pytest.raises(BlockingIOError):
        received.next()
    far.sendall(SERVER["caps"][9:] + SERVER["bell"])
    assert received.next()[:1] == b"\x03" and not received.faults
    far.close()
    assert received.next() == b""


def test_a_server_that_cannot_be_followed_is_reported(sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = sockets
    received = Received(near)
    far.sendall(b"\x2a")
    with pytest.raises(ConnectionAbortedError):
        received.next()
    assert [fault.fault for fault in received.faults] == [FilterFault.UNKNOWN_MESSAGE]
