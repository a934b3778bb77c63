# SPDX-License-Identifier: Apache-2.0
"""What the VNC server sends through the filter: every encoding, split, truncation and hostile length."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.filter.encodings import Encoding
from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.server_messages import FullUpdate, ServerScanner
from systemvm.cpvm.filter.session_state import SessionState
from unit.cpvm.filter.rfb_samples import (
    CAPS,
    HEIGHT,
    NOTIFY,
    PEEK,
    PIXEL_FORMAT,
    PROVIDE,
    RECTANGLES,
    REQUEST,
    SERVER,
    WIDTH,
    cut_text,
    cuts_of,
    extended,
    names,
    pieces,
    rectangle,
    u16,
    u32,
    update,
)

TEXTS = {"cut text", "notify", "provide"}


class Screen:
    """A scanner that collects what passes, and full updates."""

    def __init__(
        self, *, sends: bool = True, receives: bool = True, pixel: PixelFormat | None = None
    ) -> None:
        self.full: list[FullUpdate] = []
        self.state = SessionState(WIDTH, HEIGHT, pixel or PixelFormat.parse(PIXEL_FORMAT))
        self.scanner = ServerScanner(
            self.state, may_send_text=sends, may_receive_text=receives, on_full_update=self.full.append
        )
        self.passed = b""

    def feed(self, *fed: bytes) -> bytes:
        for data in fed:
            self.passed += b"".join(bytes(piece) for piece in self.scanner.feed(data))
        return self.passed


@pytest.mark.parametrize("name", SERVER)
def test_each_message_ends_where_it_should(name: str) -> None:
    screen = Screen()
    assert screen.feed(SERVER[name]) == SERVER[name]
    screen.scanner.end()
    with pytest.raises(FilterError):
        screen.feed(b"\x2a")


@pytest.mark.parametrize("name", SERVER)
def test_texts_of_the_guest_are_dropped_where_they_are_forbidden(name: str) -> None:
    expected = b"" if name in TEXTS else SERVER[name]
    if name == "caps":  # the guest answers no question for its clipboard
        expected = extended(3, CAPS | NOTIFY | PROVIDE | 1, u32(0))
    assert Screen(sends=False).feed(SERVER[name], SERVER["bell"]) == expected + SERVER["bell"]


def test_a_guest_asks_for_no_text_that_it_may_not_have() -> None:
    screen = Screen(receives=False)
    screen.feed(SERVER["caps"], SERVER["ask"], SERVER["provide"])
    assert screen.passed == extended(3, CAPS | REQUEST | PEEK | 1, u32(0)) + SERVER["provide"]


@given(st.data(), names(SERVER), st.booleans(), st.booleans())
def test_every_split_passes_what_the_whole_passes(
    data: st.DataObject, chosen: list[str], sends: bool, receives: bool
) -> None:
    stream = b"".join(SERVER[name] for name in chosen)
    whole = Screen(sends=sends, receives=receives)
    whole.feed(stream)
    split = Screen(sends=sends, receives=receives)
    split.feed(*pieces(stream, data.draw(cuts_of(stream))))
    assert split.passed == whole.passed and split.full == whole.full
    if sends and receives:
        assert whole.passed == stream


@pytest.mark.parametrize("name", SERVER)
def test_every_truncation_is_found(name: str) -> None:
    message = SERVER[name]
    for kept in range(1, len(message), 1 + len(message) // 300):
        screen = Screen(sends=False)
        assert SERVER[name].startswith(screen.feed(message[:kept])) or name == "caps"
        with pytest.raises(FilterError) as failed:
            screen.scanner.end()
        assert failed.value.fault is FilterFault.TRUNCATED


def test_an_unchanged_stream_shares_its_memory() -> None:
    stream = SERVER["raw"] + SERVER["tight palette"] + SERVER["bell"] + SERVER["hextile"]
    [piece] = Screen().scanner.feed(stream)
    assert isinstance(piece, memoryview) and piece.obj is stream and len(piece) == len(stream)


HOSTILE = {
    "unknown message": (b"\x2a", FilterFault.UNKNOWN_MESSAGE),
    "audio, never announced": (b"\xff\x01\0\x02" + u32(1 << 31), FilterFault.UNKNOWN_MESSAGE),
    "H.264": (update(rectangle(50)), FilterFault.UNKNOWN_ENCODING),
    "JPEG": (update(rectangle(21)), FilterFault.UNKNOWN_ENCODING),
    "RRE of more parts than pixels": (
        update(rectangle(Encoding.RRE, u32(WIDTH * HEIGHT + 1))), FilterFault.TOO_LONG),
    "zlib bomb": (update(rectangle(Encoding.ZLIB, u32(1 << 31))), FilterFault.TOO_LONG),
    "ZRLE bomb": (update(rectangle(Encoding.ZRLE, u32((1 << 32) - 1))), FilterFault.TOO_LONG),
    "zlib without pixels": (update(rectangle(Encoding.ZLIB, u32(0), 0, 0)), FilterFault.MALFORMED),
    "unknown compression": (update(rectangle(Encoding.TIGHT, b"\xb0")), FilterFault.MALFORMED),
    "unknown filter": (update(rectangle(Encoding.TIGHT, b"\x40\x03")), FilterFault.MALFORMED),
    "TightPNG of zlib": (update(rectangle(Encoding.TIGHT_PNG, b"\x00")), FilterFault.MALFORMED),
    "name": (update(rectangle(Encoding.DESKTOP_NAME, u32(4097))), FilterFault.TOO_LONG),
    "cursor": (update(rectangle(Encoding.VMWARE_CURSOR, b"\x02\0")), FilterFault.MALFORMED),
    "fence": (b"\xf8\0\0\0" + u32(1 << 31) + b"\x41", FilterFault.TOO_LONG),
    "extended text without flags": (cut_text(3, b"")[:4] + u32(-1), FilterFault.MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_followed_ends_the_session_for_good(name: str) -> None:
    sent, fault = HOSTILE[name]
    screen = Screen()
    for _ in range(2):
        with pytest.raises(FilterError) as failed:
            screen.feed(sent)
        assert failed.value.fault is fault
    with pytest.raises(FilterError):
        screen.feed(SERVER["bell"])


def test_a_tight_pixel_of_unknown_length_is_a_fault_and_no_guess() -> None:
    unknown = PixelFormat.parse(bytes((32, 32)) + PIXEL_FORMAT[2:])
    for name in ("tight fill", "tight palette", "tight PNG fill"):
        with pytest.raises(FilterError) as failed:
            Screen(pixel=unknown).feed(SERVER[name])
        assert failed.value.fault is FilterFault.PIXEL_FORMAT
    assert Screen(pixel=unknown).feed(SERVER["raw"], SERVER["tight PNG"])


@pytest.mark.parametrize(("bits", "pixel_bytes"), [(8, 1), (16, 2), (32, 4)])
def test_pixels_have_the_width_of_their_format(bits: int, pixel_bytes: int) -> None:
    pixel = PixelFormat.parse(bytes((bits, bits, 0, 1)) + bytes(12))
    assert (pixel.pixel_bytes, pixel.tight_pixel_bytes) == (pixel_bytes, pixel_bytes)
    screen = Screen(pixel=pixel)
    screen.feed(update(rectangle(Encoding.RAW, bytes(WIDTH * HEIGHT * pixel_bytes))))
    screen.scanner.end()


def test_a_pixel_format_of_24_bits_is_a_fault() -> None:
    with pytest.raises(FilterError) as failed:
        PixelFormat.parse(bytes((24, 24, 0, 1)) + bytes(12))
    assert failed.value.fault is FilterFault.PIXEL_FORMAT


def test_a_text_that_is_too_long_is_dropped_and_the_console_goes_on() -> None:
    for length in ((1 << 20) + 1, -(1 << 20) - 1):
        screen = Screen()
        screen.feed(b"\x03\0\0\0" + u32(length))
        screen.feed(*(bytes(1 << 16) for _ in range(16)), bytes(1))
        assert screen.feed(SERVER["bell"]) == SERVER["bell"]


def test_full_updates_are_found_with_their_places() -> None:
    screen = Screen(sends=False)
    before = SERVER["cut text"] + SERVER["bell"] + SERVER["copy"] + SERVER["zlib"]
    screen.feed(before, SERVER["raw"], SERVER["tight fill"], SERVER["tight PNG"])
    begin = len(before) - len(SERVER["cut text"])
    assert screen.full == [
        FullUpdate(begin, WIDTH, HEIGHT),
        FullUpdate(begin + len(SERVER["raw"]) + len(SERVER["tight fill"]), WIDTH, HEIGHT),
    ]
    assert screen.passed[begin:].startswith(SERVER["raw"])


def test_a_part_of_the_screen_is_no_full_update() -> None:
    screen = Screen()
    half = rectangle(Encoding.RAW, bytes(WIDTH * HEIGHT * 2), WIDTH, HEIGHT // 2)
    screen.feed(update(half), update(half, RECTANGLES["cursor"]), SERVER["empty update"])
    assert screen.full == []
    screen.feed(update(half, half))
    assert len(screen.full) == 1


def test_a_new_size_counts_from_its_rectangle_on() -> None:
    screen = Screen()
    small = rectangle(Encoding.RAW, bytes(4), 1, 1)
    screen.feed(update(rectangle(Encoding.DESKTOP_SIZE, b"", 1, 1), small))
    assert (screen.state.width_px, screen.state.height_px) == (1, 1) and len(screen.full) == 1
    screen.feed(update(rectangle(Encoding.EXTENDED_DESKTOP_SIZE, bytes(4), 2, 1, y=1)))  # refused
    assert (screen.state.width_px, screen.state.height_px) == (1, 1)
    screen.feed(update(rectangle(Encoding.EXTENDED_DESKTOP_SIZE, bytes(4), 2, 1)), update(small))
    assert screen.state.width_px == 2 and len(screen.full) == 1


def test_the_largest_rectangle_costs_no_memory() -> None:
    """65,535 rectangles of 65,535 x 65,535 pixels are a terabyte each 64th."""
    screen = Screen()
    screen.scanner.feed(b"\0\0" + u16(0xFFFF) + rectangle(Encoding.RAW, b"", 0xFFFF, 0xFFFF))
    data = bytes(1 << 20)
    screen.scanner.feed(data)
    tracemalloc.start()
    try:
        for _ in range(64):
            assert sum(len(piece) for piece in screen.scanner.feed(data)) == len(data)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_any_bytes_pass_or_end_in_a_typed_fault(sent: list[bytes]) -> None:
    split, whole = Screen(sends=False), Screen(sends=False)
    fault = _fault_of(split, sent)
    assert _fault_of(whole, [b"".join(sent)]) is fault
    assert fault is not None or split.passed == whole.passed
    assert Screen(sends=False).feed(split.passed) == split.passed


def _fault_of(screen: Screen, sent: list[bytes]) -> FilterFault | None:
    try:
        screen.feed(*sent)
    except FilterError as failed:
        return failed.fault
    return None
