# SPDX-License-Identifier: Apache-2.0
"""What the browser sends through the filter: every message, split, truncation and hostile length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.filter.client_messages import ClientRules, ClientScanner
from systemvm.cpvm.filter.encodings import Announced, Encoding
from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.session_state import SessionState
from unit.cpvm.filter.rfb_samples import (
    CAPS,
    CLIENT,
    NOTIFY,
    PEEK,
    PIXEL_FORMAT,
    PROVIDE,
    REQUEST,
    cut_text,
    cuts_of,
    encodings,
    extended,
    names,
    pieces,
    u16,
    u32,
)

CONTROLS = {"key", "pointer", "power", "desktop size", "QEMU key"}
ALL = ClientRules(True, True, True)
WATCHING = ClientRules(False, False, True)
FOLLOWED = ClientRules(True, True, True, Announced.FOLLOWED)
RULES = {
    "all": ALL,
    "view-only": WATCHING,
    "no text to the guest": ClientRules(True, False, True),
    "no text from the guest": ClientRules(True, True, False, Announced.FOLLOWED),
    "no text": ClientRules(False, False, False, Announced.FOLLOWED),
}


def scanner(rules: ClientRules) -> ClientScanner:
    return ClientScanner(rules, SessionState(640, 480, PixelFormat.parse(PIXEL_FORMAT)))


def passed(rules: ClientRules, *fed: bytes) -> bytes:
    reading = scanner(rules)
    return b"".join(bytes(piece) for data in fed for piece in reading.feed(data))


@pytest.mark.parametrize("name", CLIENT)
def test_each_message_passes_unchanged_where_all_is_permitted(name: str) -> None:
    assert passed(ALL, CLIENT[name]) == CLIENT[name]


@pytest.mark.parametrize("name", CLIENT)
def test_a_viewer_sends_no_key_pointer_power_size_or_text(name: str) -> None:
    is_control = name in CONTROLS or name in ("cut text", "empty cut text", "notify", "provide")
    expected = b"" if is_control else CLIENT[name]
    if name == "caps":  # the viewer answers no question for its own clipboard
        expected = extended(6, CAPS | NOTIFY | PROVIDE | 1, u32(0))
    assert passed(WATCHING, CLIENT[name]) == expected


def test_without_text_from_the_guest_a_browser_asks_for_none() -> None:
    rules = RULES["no text from the guest"]
    assert passed(rules, extended(6, CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | 1, u32(0))) == extended(
        6, CAPS | REQUEST | PEEK | 1, u32(0)
    )
    for name in ("ask", "peek"):
        assert passed(rules, CLIENT[name]) == b""
    for name in ("notify", "provide", "cut text"):
        assert passed(rules, CLIENT[name]) == CLIENT[name]


def test_without_any_text_no_clipboard_is_announced_or_passes() -> None:
    rules = RULES["no text"]
    announced = encodings(Encoding.RAW, Encoding.EXTENDED_CLIPBOARD, Encoding.XVP)
    assert passed(rules, announced) == encodings(Encoding.RAW)
    for name in ("cut text", "caps", "ask", "peek", "notify", "provide"):
        assert passed(rules, CLIENT[name]) == b""


def test_an_encoding_that_cannot_be_followed_is_not_announced() -> None:
    h264, jpeg, mouse_buttons, unknown = 50, 21, Encoding.EXTENDED_MOUSE_BUTTONS, -1234
    wanted = encodings(Encoding.COPY_RECT, h264, Encoding.TIGHT, jpeg, mouse_buttons, -26, unknown)
    assert passed(FOLLOWED, wanted) == encodings(Encoding.COPY_RECT, Encoding.TIGHT, -26)
    assert passed(ALL, wanted) == encodings(Encoding.COPY_RECT, h264, Encoding.TIGHT, jpeg, -26, unknown)
    seekable = ClientRules(True, True, True, Announced.SEEKABLE)
    wanted = encodings(Encoding.TIGHT, Encoding.ZRLE, Encoding.ZLIB, Encoding.TIGHT_PNG, Encoding.HEXTILE)
    assert passed(seekable, wanted) == encodings(Encoding.TIGHT_PNG, Encoding.HEXTILE)


def test_audio_is_dropped_where_the_server_is_followed() -> None:
    assert passed(FOLLOWED, CLIENT["audio on"], CLIENT["audio format"], CLIENT["key"]) == CLIENT["key"]


@given(st.data(), names(CLIENT), st.sampled_from(sorted(RULES)))
def test_every_split_passes_what_the_whole_passes(data: st.DataObject, chosen: list[str], rules: str) -> None:
    stream = b"".join(CLIENT[name] for name in chosen)
    whole = passed(RULES[rules], stream)
    assert whole == b"".join(passed(RULES[rules], CLIENT[name]) for name in chosen)
    assert passed(RULES[rules], *pieces(stream, data.draw(cuts_of(stream)))) == whole
    assert passed(RULES[rules], *(bytes((byte,)) for byte in stream)) == whole


@given(names(CLIENT), st.integers(1, 200))
def test_a_truncated_stream_passes_a_beginning_and_is_found(chosen: list[str], missing: int) -> None:
    stream = b"".join(CLIENT[name] for name in [*chosen, "key"])
    whole, reading = passed(ALL, stream), scanner(ALL)
    boundaries = {sum(len(CLIENT[name]) for name in chosen[:count]) for count in range(len(chosen) + 1)}
    kept = max(0, len(stream) - missing)
    output = b"".join(bytes(piece) for piece in reading.feed(stream[:kept]))
    assert whole.startswith(output)
    if kept in boundaries:
        reading.end()
    else:
        with pytest.raises(FilterError) as failed:
            reading.end()
        assert failed.value.fault is FilterFault.TRUNCATED


HOSTILE = {
    "unknown message": (b"\x01", FilterFault.UNKNOWN_MESSAGE),
    "GII": (b"\xfd", FilterFault.UNKNOWN_MESSAGE),
    "unknown QEMU message": (b"\xff\x02", FilterFault.UNKNOWN_MESSAGE),
    "too many encodings": (b"\x02\0" + u16(1025), FilterFault.TOO_LONG),
    "long text": (cut_text(6, b"")[:4] + u32((1 << 20) + 1), FilterFault.TOO_LONG),
    "longest text": (cut_text(6, b"")[:4] + u32((1 << 31) - 1), FilterFault.TOO_LONG),
    "long extended text": (cut_text(6, b"")[:4] + u32(-(1 << 20) - 1), FilterFault.TOO_LONG),
    "longest extended text": (cut_text(6, b"")[:4] + u32(1 << 31), FilterFault.TOO_LONG),
    "extended text without flags": (cut_text(6, b"")[:4] + u32(-3), FilterFault.MALFORMED),
    "long fence": (b"\xf8\0\0\0" + u32(0) + b"\x41", FilterFault.TOO_LONG),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_hostile_length_ends_the_session_for_good(name: str, rules: ClientRules) -> None:
    sent, fault = HOSTILE[name]
    reading = scanner(rules)
    for _ in range(2):
        with pytest.raises(FilterError) as failed:
            reading.feed(sent + CLIENT["request"])
        assert failed.value.fault is fault
    with pytest.raises(FilterError):
        reading.feed(CLIENT["request"])


@given(st.lists(st.binary(max_size=64), max_size=8), st.sampled_from(sorted(RULES)))
def test_any_bytes_pass_or_end_in_a_typed_fault(sent: list[bytes], rules: str) -> None:
    """Whatever passes is whole messages that the rules permit, and the beginning of one."""
    output = bytearray()
    reading = scanner(RULES[rules])
    try:
        for data in sent:
            output += b"".join(bytes(piece) for piece in reading.feed(data))
    except FilterError:
        pass
    assert passed(RULES[rules], bytes(output)) == output


def test_the_pixel_format_is_fixed_once_pixels_can_arrive() -> None:
    wide, narrow = CLIENT["pixel format"], b"\0\0\0\0" + bytes((8, 8, 0, 1)) + bytes(12)
    assert passed(FOLLOWED, narrow, wide, CLIENT["request"], wide) == narrow + wide + CLIENT["request"] + wide
    assert passed(ALL, CLIENT["request"], narrow) == CLIENT["request"] + narrow
    for first in ("request", "encodings", "continuous updates"):
        reading = scanner(FOLLOWED)
        reading.feed(CLIENT[first])
        with pytest.raises(FilterError) as failed:
            reading.feed(narrow)
        assert failed.value.fault is FilterFault.PIXEL_FORMAT


def test_a_long_text_is_never_collected() -> None:
    """A text in pieces is passed, or dropped, piece by piece."""
    for rules, expected in ((ALL, 1 << 20), (WATCHING, 0)):
        reading = scanner(rules)
        reading.feed(b"\x06\0\0\0" + u32(1 << 20))
        text = bytes(1 << 16)
        sizes = [sum(len(piece) for piece in reading.feed(text)) for _ in range(16)]
        assert sum(sizes) == expected and max(sizes) == expected // 16
        assert reading.is_at_boundary
