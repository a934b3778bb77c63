# SPDX-License-Identifier: Apache-2.0
"""The filter and a decoder that draws read the same streams: they agree where each message ends."""

from __future__ import annotations

import pytest

from rfb_decoder import PIXEL_FORMAT, RfbDecoder
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.server_messages import ServerScanner
from systemvm.cpvm.filter.session_state import SessionState
from unit.cpvm.filter.decoded_streams import PICTURE, STREAMS
from unit.cpvm.filter.rfb_samples import HEIGHT, RECTANGLES, WIDTH, update

LOSSLESS = {"raw", "zlib", "ZRLE", "Tight", "TightPNG"}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("piece_bytes", [1, 7, 100_000])
def test_filter_and_decoder_agree_at_every_piece(name: str, piece_bytes: int) -> None:
    stream = update(STREAMS[name], RECTANGLES["LED"]) + b"\x02" + update(RECTANGLES["QEMU keys"])
    state = SessionState(WIDTH, HEIGHT, PixelFormat.parse(PIXEL_FORMAT))
    scanner = ServerScanner(state, may_send_text=False, may_receive_text=False)
    decoder = RfbDecoder(WIDTH, HEIGHT)
    for begin in range(0, len(stream), piece_bytes):
        passed = b"".join(bytes(piece) for piece in scanner.feed(stream[begin : begin + piece_bytes]))
        decoder.feed(passed)
        assert scanner.is_at_boundary == decoder.is_between
    assert decoder.is_between and decoder.updates == 2
    assert name not in LOSSLESS or (decoder.pixels == PICTURE).all()
