# SPDX-License-Identifier: Apache-2.0
"""Recordings are drawn as an independent decoder draws them, in any pieces; what cannot be drawn is named."""

from __future__ import annotations

import numpy
import pytest

from rfb_decoder import PIXEL_FORMAT, RfbDecoder
from systemvm.cli.recorded_screen import RecordedScreen
from systemvm.recording.format import RecordingError
from unit.cpvm.filter.decoded_streams import PICTURE, RAW, STREAMS, image
from unit.cpvm.filter.rfb_samples import HEIGHT, PIXEL, RECTANGLES, WIDTH, rectangle, u16, u32, update

DRAWN = {
    "raw": STREAMS["raw"],
    "hextile": STREAMS["hextile"],
    "TightPNG": STREAMS["TightPNG"],
    "TightPNG of JPEG": rectangle(-260, b"\x90" + bytes((len(image("JPEG")) & 127 | 128,))
                                  + bytes((len(image("JPEG")) >> 7,)) + image("JPEG")),
    "TightPNG, filled": rectangle(-260, b"\x80\x01\x02\x03"),
    "copy": STREAMS["raw"] + rectangle(1, u16(0) + u16(3), WIDTH, HEIGHT - 3),
}  # fmt: skip
BIG_ENDIAN = bytes((32, 24, 1, 1)) + b"\0\xff\0\xff\0\xff" + bytes((16, 8, 0)) + bytes(3)
BLUE_FIRST = bytes((32, 24, 0, 1)) + b"\0\xff\0\xff\0\xff" + bytes((16, 8, 0)) + bytes(3)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("piece_bytes", [1, 7, 100_000])
def test_screens_are_drawn_as_another_decoder_draws_them(name: str, piece_bytes: int) -> None:
    rectangles = DRAWN[name]
    stream = update(rectangles, count=2 if name == "copy" else 1)
    stream += b"\x02" + update(RECTANGLES["LED"], RECTANGLES["cursor"], RECTANGLES["name"])
    screen, decoder = RecordedScreen(WIDTH, HEIGHT, PIXEL_FORMAT), RfbDecoder(WIDTH, HEIGHT)
    for begin in range(0, len(stream), piece_bytes):
        screen.feed(stream[begin : begin + piece_bytes])
        decoder.feed(stream[begin : begin + piece_bytes])
        assert screen.is_between == decoder.is_between
    assert screen.updates == 2
    assert (numpy.asarray(screen.image) == decoder.pixels).all()
    assert len(numpy.unique(decoder.pixels)) > 1


def test_parts_of_rre_are_drawn() -> None:
    body = u32(1) + PIXEL + b"\x09\x08\x07\x00" + u16(2) + u16(3) + u16(4) + u16(5)
    screen = RecordedScreen(WIDTH, HEIGHT, PIXEL_FORMAT)
    screen.feed(update(rectangle(2, body)))
    pixels = numpy.asarray(screen.image)
    assert (pixels[3:8, 2:6] == (9, 8, 7)).all()
    assert (pixels == tuple(PIXEL[:3])).all(axis=2).sum() == WIDTH * HEIGHT - 20


@pytest.mark.parametrize(("pixel_format", "order"), [(BIG_ENDIAN, (1, 2, 3)), (BLUE_FIRST, (2, 1, 0))])
def test_the_order_of_colours_is_that_of_the_recording(
    pixel_format: bytes, order: tuple[int, int, int]
) -> None:
    screen = RecordedScreen(WIDTH, HEIGHT, pixel_format)
    screen.feed(update(rectangle(0, RAW)))
    expected = numpy.frombuffer(RAW, numpy.uint8).reshape(HEIGHT, WIDTH, 4)[:, :, order]
    assert (numpy.asarray(screen.image) == expected).all()
    screen.feed(update(rectangle(2, u32(0) + bytes((10, 20, 30, 40)))))
    assert screen.image.getpixel((5, 5)) == tuple((10, 20, 30, 40)[place] for place in order)


def test_a_screen_changes_its_size() -> None:
    screen = RecordedScreen(WIDTH, HEIGHT, PIXEL_FORMAT)
    screen.feed(update(rectangle(-223, b"", 8, 4)))
    assert screen.image.size == (8, 4)
    screen.feed(update(rectangle(-308, b"\x01" + bytes(19), 16, 6), rectangle(-308, b"\0" * 4, 99, 99, y=2)))
    assert screen.image.size == (16, 6)


@pytest.mark.parametrize("place", [0, 3, 10])
def test_other_formats_of_pixels_are_refused(place: int) -> None:
    other = bytearray(PIXEL_FORMAT)
    other[place] ^= 16 if place == 0 else 1
    with pytest.raises(RecordingError, match="format that cannot be drawn"):
        RecordedScreen(WIDTH, HEIGHT, bytes(other))


@pytest.mark.parametrize(
    "stream",
    [
        b"\x07",
        update(rectangle(50)),
        update(rectangle(-260, b"\x20")),
        update(rectangle(-260, b"\xa0\x02hi")),
    ],
)
def test_what_no_server_sends_is_named(stream: bytes) -> None:
    with pytest.raises(RecordingError):
        RecordedScreen(WIDTH, HEIGHT, PIXEL_FORMAT).feed(stream)


def test_the_picture_is_not_the_same_for_other_bytes() -> None:
    screen = RecordedScreen(WIDTH, HEIGHT, PIXEL_FORMAT)
    screen.feed(update(STREAMS["raw"]))
    assert (numpy.asarray(screen.image) == PICTURE).all()
