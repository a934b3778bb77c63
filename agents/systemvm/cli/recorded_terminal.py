# SPDX-License-Identifier: Apache-2.0
"""Exports the recording of a serial port: for asciinema's players, or as plain text.

Format of `.cast` files: https://docs.asciinema.org/manual/asciicast/v2/
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator

from systemvm.recording.format import FrameKind, RecordedFrame, RecordingError, RecordingKind, is_gap
from systemvm.recording.reader import RecordingReader

#: A sequence whose end has not come is held back up to this length, then its text is shown.
_MAX_HELD = 4096
#: A longer line is written in parts.
_MAX_LINE = 16 * 1024
_ERASE_LINE = "K"

_CONTROL = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|\x1b[P\]X^_][^\x1b\x07]*(?:\x1b\\|\x07)"  # strings: DCS, OSC, SOS, PM, APC
    r"|\x1b[ -/]*(?![\[P\]X^_])[0-~]"
    r"|[\x00-\x1f\x7f-\x9f]"
)
#: The beginning of any sequence, at the end of the text.
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[P\]X^_][^\x1b\x07]*\x1b?|[ -/]*)?\Z")


class TerminalLines:
    """The lines that a terminal of any width shows, as far as no sequence moves the cursor between lines."""

    def __init__(self) -> None:
        self._held = ""
        self._line = ""
        self._column = 0

    def feed(self, text: str) -> str:
        """Return the lines that are complete."""
        text, self._held = self._held + text, ""
        begun = _BEGUN.search(text)
        if begun is not None and len(text) - begun.start() <= _MAX_HELD:
            text, self._held = text[: begun.start()], text[begun.start() :]
        lines, at = list[str](), 0
        for control in _CONTROL.finditer(text):
            self._write(text[at : control.start()], lines)
            self._obey(control, lines)
            at = control.end()
        self._write(text[at:], lines)
        return "".join(lines)

    def end(self) -> str:
        """Return the last line, which nothing has ended."""
        line, self._line, self._column = self._line, "", 0
        return f"{line.rstrip()}\n" if line else ""

    def _write(self, text: str, lines: list[str]) -> None:
        end = self._column + len(text)
        self._line = self._line[: self._column].ljust(self._column) + text + self._line[end:]
        self._column = end
        if len(self._line) > _MAX_LINE:
            lines.append(self.end())

    def _obey(self, control: re.Match[str], lines: list[str]) -> None:
        match control[0]:
            case "\n":
                lines.append(self._line.rstrip() + "\n")
                self._line, self._column = "", 0
            case "\r":
                self._column = 0
            case "\b":
                self._column = max(0, self._column - 1)
            case "\t":
                self._column += 8 - self._column % 8
            case _ if control["final"] == _ERASE_LINE:
                begin = self._column if control["parameters"] in ("", "0") else 0
                end = self._column if control["parameters"] == "1" else len(self._line)
                self._line = self._line[:begin] + " " * (end - begin) + self._line[end:]


def plain_text(recording: RecordingReader) -> Iterator[str]:
    """Yield what a serial port wrote, as lines without a terminal's sequences.

    Raises: RecordingError when the recording shows a screen.
    """
    lines = TerminalLines()
    for frame, text in _texts(recording):
        if is_gap(frame):
            yield (
                lines.end()
                + f"[nothing was recorded from {_clock(_gap_from(frame))} to {_clock(frame.time_ms)}]\n"
            )
        else:
            yield lines.feed(text)
    yield lines.end()


def cast(recording: RecordingReader) -> Iterator[str]:
    """Yield the lines of a file for asciinema, version 2; a gap is a marker.

    Raises: RecordingError when the recording shows a screen.
    """
    header = recording.header
    about = {
        "version": 2,
        "width": header.width_px,  # of a serial port, in characters
        "height": header.height_px,
        "timestamp": header.started_unix_ms // 1000,
        "title": header.title,
    }
    yield json.dumps(about) + "\n"
    for frame, text in _texts(recording):
        if is_gap(frame):
            mark = f"nothing was recorded since {_clock(_gap_from(frame))}"
            yield json.dumps([frame.time_ms / 1000, "m", mark]) + "\n"
        elif text:
            yield json.dumps([frame.time_ms / 1000, "o", text]) + "\n"


#: By the file's ending.
FORMATS: dict[str, Callable[[RecordingReader], Iterator[str]]] = {".cast": cast, ".txt": plain_text}


def _texts(recording: RecordingReader) -> Iterator[tuple[RecordedFrame, str]]:
    if recording.header.kind is not RecordingKind.SERIAL:
        raise RecordingError(
            "recording shows a screen and has no text", "name a file that ends in .mp4 or .webm"
        )
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for frame in recording.play():
        yield frame, decoder.decode(frame.content) if frame.kind is FrameKind.SERVER else ""


def _gap_from(gap: RecordedFrame) -> int:
    return int(json.loads(gap.content)["from_ms"])


def _clock(time_ms: int) -> str:
    minutes, seconds = divmod(time_ms // 1000, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
