# SPDX-License-Identifier: Apache-2.0
"""The recording of a serial port as plain text and for asciinema."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cli.recorded_terminal import TerminalLines, cast, plain_text
from systemvm.recording.format import RecordingError, RecordingHeader, RecordingKind
from systemvm.recording.reader import RecordingReader
from systemvm.recording.writer import RecordingWriter

SERIAL = RecordingHeader(80, 24, bytes(16), 1_790_000_000_500, "web-1", kind=RecordingKind.SERIAL)


def recording(*output: tuple[int, bytes], gap: tuple[int, int] | None = None) -> RecordingReader:
    writer = RecordingWriter(SERIAL)
    data = writer.begin
    for time_ms, content in output:
        data += writer.server(time_ms, content)
    if gap is not None:
        data += writer.event(gap[1], {"event": "gap", "from_ms": str(gap[0])})
        data += writer.server(gap[1], b"after")
    data += writer.end(10_000)
    return RecordingReader(lambda offset, count: data[offset : offset + count], len(data))


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("one\r\ntwo", "one\ntwo\n"),
        ("\x1b[1;32m[  OK  ]\x1b[0m Started", "[  OK  ] Started\n"),
        ("\x1b]0;root@web: ~\x07# ls", "# ls\n"),
        ("\x1bP$q m\x1b\\\x1b(B\x1b=text", "text\n"),
        ("10 %\r20 %\r100 %\r\n", "100 %\n"),
        ("passwd\b\b\x1b[Kt", "passt\n"),
        ("long line\r\x1b[2Kshort", "short\n"),
        ("abcdef\b\b\x1b[1Kx", "    xf\n"),
        ("a\tb", "a       b\n"),
        ("bell\x07 and \x9bnothing", "bell and nothing\n"),
        ("\n\n", "\n\n"),
        ("", ""),
    ],
)
def test_lines_are_what_a_terminal_shows(output: str, shown: str) -> None:
    lines = TerminalLines()
    assert lines.feed(output) + lines.end() == shown
    piece_by_piece = TerminalLines()
    assert "".join(map(piece_by_piece.feed, output)) + piece_by_piece.end() == shown


@given(
    st.lists(st.text(alphabet=st.sampled_from("a[]P;0Km\\\x1b\x07\r\n\b\t\x9b"), max_size=30), max_size=10)
)
def test_no_output_leaves_a_control_character(pieces: list[str]) -> None:
    lines = TerminalLines()
    text = "".join(map(lines.feed, pieces)) + lines.end()
    assert all(character == "\n" or " " <= character < "\x7f" for character in text)


def test_an_endless_line_or_sequence_is_written_in_parts() -> None:
    lines = TerminalLines()
    written = "".join(lines.feed("x" * 1000) for _ in range(100))
    assert written.replace("\n", "") == "x" * (len(written) - written.count("\n")) and len(written) > 80_000
    endless = TerminalLines()
    assert len(endless.feed("\x1b]" + "y" * 100_000)) > 90_000


def test_plain_text_names_gaps() -> None:
    text = "".join(plain_text(recording((0, b"login: "), gap=(65_000, 70_000))))
    assert text == "login:\n[nothing was recorded from 00:01:05 to 00:01:10]\nafter\n"


def test_a_cast_has_the_output_with_its_times() -> None:
    umlaut = "ü".encode()
    output = ((0, b"log" + umlaut[:1]), (1500, umlaut[1:]), (2000, b"\x1b[1m\xff"))
    header, *events = map(json.loads, cast(recording(*output, gap=(3000, 4000))))
    assert header == {"version": 2, "width": 80, "height": 24, "timestamp": 1_790_000_000, "title": "web-1"}
    assert events == [
        [0.0, "o", "log"],
        [1.5, "o", "ü"],
        [2.0, "o", "\x1b[1m\ufffd"],
        [4.0, "m", "nothing was recorded since 00:00:03"],
        [4.0, "o", "after"],
    ]


def test_a_screen_has_no_text() -> None:
    data = RecordingWriter(RecordingHeader(4, 2, bytes(16), 0, "web")).begin
    reader = RecordingReader(lambda offset, count: data[offset : offset + count], len(data))
    for export in (cast, plain_text):
        with pytest.raises(RecordingError, match="shows a screen"):
            list(export(reader))
