# SPDX-License-Identifier: Apache-2.0
"""The RFB handshake with a browser, names of screens, and ServerInit."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm import rfb
from systemvm.cpvm.rfb import BrowserHandshake, ServerInit
from systemvm.service.rfb_handshake import RfbError

PIXEL_FORMAT = bytes(range(16))
SCREEN = b"\x02\x80\x01\xe0" + PIXEL_FORMAT + b"\0\0\0\x04QEMU"
OK = bytes(4)


class TestBrowserHandshake:
    @pytest.mark.parametrize(
        ("received", "sent"),
        [
            (b"RFB 003.008\n\x01\x01", b"\x01\x01" + OK),
            (b"RFB 003.007\n\x01\x00", b"\x01\x01"),
            (b"RFB 003.003\n\x01", b"\0\0\0\x01"),
        ],
    )
    def test_each_version_is_offered_only_none(self, received: bytes, sent: bytes) -> None:
        for at in range(len(received) + 1):
            handshake = BrowserHandshake()
            assert handshake.receive(received[:at]) + handshake.receive(received[at:]) == sent
            assert handshake.done
        handshake = BrowserHandshake()
        handshake.receive(received + b"\x00set pixel format")
        assert handshake.rest() == b"\x00set pixel format"

    @pytest.mark.parametrize(
        "received", [b"RFB 003.008\n\x02", b"RFB 003.008\n\x00", b"GET / HTTP/1", b"\xff" * 12]
    )
    def test_anything_else_is_refused(self, received: bytes) -> None:
        with pytest.raises(RfbError):
            BrowserHandshake().receive(received)

    @given(st.binary(max_size=60))
    def test_any_bytes_are_parsed_or_refused(self, noise: bytes) -> None:
        with suppress(RfbError):
            BrowserHandshake().receive(noise)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-1", "web-1"),
        ("  two\n lines\x00 ", "two lines"),
        ("<script>", "<script>"),  # harmless as text, and pages write it as text
        ("\u202egnp.exe", "gnp.exe"),
        ("", "console"),
        ("\x07", "console"),
        ("x" * 500, "x" * 128),
        ("büro", "büro"),
    ],
)
def test_display_name_is_printable_and_short(text: str, shown: str) -> None:
    assert rfb.display_name(text) == shown


def test_server_init_is_encoded_as_received() -> None:
    assert ServerInit(640, 480, PIXEL_FORMAT, "QEMU").encode("QEMU") == SCREEN
