# SPDX-License-Identifier: Apache-2.0
"""Pictures of screens: what is a region's hash, and that the PNG has the same pixels."""

from __future__ import annotations

import io
import os

import pytest
from PIL import Image

from systemvm.management.screens.picture import Picture, PictureError, Region

WIDTH, HEIGHT = 7, 5
PIXELS = os.urandom(3 * WIDTH * HEIGHT)
PPM = b"P6\n7 5\n255\n" + PIXELS


def test_the_png_has_the_same_pixels() -> None:
    image = Image.open(io.BytesIO(Picture.parse(PPM).png()))
    assert image.size == (WIDTH, HEIGHT)
    assert image.mode == "RGB"
    assert image.tobytes() == PIXELS


def test_a_regions_hash_depends_on_its_pixels_only() -> None:
    region = Region(2, 1, 3, 2)
    outside = bytearray(PIXELS)
    outside[0] ^= 1
    inside = bytearray(PIXELS)
    inside[3 * (2 * WIDTH + 4)] ^= 1
    before = Picture.parse(PPM).hash(region)
    assert Picture(WIDTH, HEIGHT, bytes(outside)).hash(region) == before
    assert Picture(WIDTH, HEIGHT, bytes(inside)).hash(region) != before


def test_the_same_pixels_in_another_shape_have_another_hash() -> None:
    black = bytes(3 * 12)
    assert Picture(4, 3, black).hash() != Picture(3, 4, black).hash()
    assert Picture(4, 3, black).hash() == Picture(4, 3, black).hash(Region(0, 0, 4, 3))


@pytest.mark.parametrize(
    "region",
    [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 1), (0, 0, 1, 0), (6, 0, 2, 1), (0, 4, 1, 2), (0, 0, 8, 5)],
)
def test_a_region_that_is_not_on_the_screen_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(PictureError, match="7x5 pixels"):
        Picture.parse(PPM).hash(Region(*region))


@pytest.mark.parametrize(
    "damaged", [b"", b"P5\n1 1\n255\nx", PPM[:-1], PPM + b"x", b"P6\n7 5\n65535\n" + PIXELS]
)
def test_what_is_no_whole_picture_is_refused(damaged: bytes) -> None:
    with pytest.raises(PictureError):
        Picture.parse(damaged)


def test_a_region_is_cut_out_of_the_picture() -> None:
    whole = Image.open(io.BytesIO(PPM))
    assert Picture.parse(PPM).cut(Region(2, 1, 3, 2)).pixels == whole.crop((2, 1, 5, 3)).tobytes()


def test_a_doubled_picture_has_each_pixel_four_times() -> None:
    doubled = Picture.parse(PPM).doubled()
    expected = Image.open(io.BytesIO(PPM)).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST)
    assert (doubled.width, doubled.height) == expected.size
    assert doubled.pixels == expected.tobytes()


def test_a_picture_is_written_as_it_was_read() -> None:
    assert Picture.parse(PPM).ppm() == PPM
