# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles on the page of a real daemon, played by a real browser, and exported by ffmpeg."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from console_page import open_section
from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_visitor import Visitor
from rfb_decoder import PIXEL_FORMAT
from systemvm.cli.recording_video import export
from systemvm.recording.format import RecordingHeader, RecordingKind
from systemvm.recording.reader import RecordingReader
from systemvm.recording.writer import RecordingWriter
from systemvm.wire.recording import MAX_PIECE_BYTES
from unit.cpvm.filter.rfb_samples import compact, rectangle, u32, update

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["browser", "host"]  # fixtures

BUILD = Path(__file__).resolve().parents[2] / "build"
WIDTH, HEIGHT = 320, 200
SCREEN = RecordingHeader(WIDTH, HEIGHT, PIXEL_FORMAT, 1_790_000_000_000, "web-1")
SERIAL = RecordingHeader(80, 24, bytes(16), 1_790_000_000_000, "web-1", kind=RecordingKind.SERIAL)
KEY = bytes(range(32))
COLOURS = {"red": (200, 10, 20), "green": (10, 200, 30), "blue": (20, 30, 200), "grey": (90, 91, 92)}


def pixel(name: str) -> bytes:
    return bytes((*COLOURS[name], 0))


def png(name: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), COLOURS[name]).save(file, "PNG")
    return b"\xa0" + compact(file.getvalue())


def hextile(name: str) -> bytes:
    """A rectangle whose first tile has a colour, and all others the same."""
    tiles = -(-WIDTH // 16) * -(-HEIGHT // 16)
    return b"\x02" + pixel(name) + bytes(tiles - 1)


UPDATES = {
    "red": update(rectangle(0, pixel("red") * (WIDTH * HEIGHT), WIDTH, HEIGHT)),
    "green": update(rectangle(-260, png("green"), WIDTH, HEIGHT)),
    "blue": update(rectangle(5, hextile("blue"), WIDTH, HEIGHT)),
    "grey": update(rectangle(2, u32(0) + pixel("grey"), WIDTH, HEIGHT)),
}


class Recording:
    """Screens of one colour, ten seconds each; every one can be sought."""

    def __init__(self, key: bytes | None = None, header: RecordingHeader = SCREEN) -> None:
        self._writer = RecordingWriter(header, key)
        self._kind = header.kind
        self.data = self._writer.begin
        self.state = "Recording"
        self._time_ms = self._offset = 0

    def show(self, name: str) -> None:
        content = UPDATES[name]
        # in two frames: a player that seeks begins within one
        self.data += self._writer.server(self._time_ms, content[:50])
        self.data += self._writer.server(self._time_ms, content[50:])
        self.data += self._writer.keyframe(self._time_ms, self._offset, WIDTH, HEIGHT)
        self._offset += len(content)
        self._time_ms += 10_000

    def write(self, content: bytes) -> None:
        """Have a serial port write something, ten seconds after what was before."""
        self.data += self._writer.server(self._time_ms, content)
        self._time_ms += 10_000

    def lose(self) -> None:
        """Record nothing for ten seconds."""
        begun_ms, self._time_ms = self._time_ms, self._time_ms + 10_000
        self.data += self._writer.event(self._time_ms, {"event": "gap", "from_ms": str(begun_ms)})

    def end(self) -> None:
        self.data += self._writer.end(self._time_ms)
        self.state = "Complete"

    def answer(self, call: dict[str, str]) -> dict[str, Any] | None:
        """Answer in the place of a daemon whose SSVM has the file."""
        about = {"id": "r-1", "state": self.state, "size": len(self.data), "kind": self._kind.value}
        match call["command"]:
            case "listConsoleRecordings":
                row = {"virtualmachinename": "web-1", "user": "ulla", "created": "2026-11-29T08:00:00+0000"}
                return {"consolerecording": [about | row], "count": 1}
            case "openConsoleRecording":
                return {"consolerecordingaccess": {"id": "r-1", "url": "", "key": KEY.hex()}}
            case "readConsoleRecording":
                offset = int(call["offset"])
                data = base64.b64encode(self.data[offset : offset + MAX_PIECE_BYTES]).decode()
                return {"consolerecordingcontent": about | {"data": data}}
        return None


def complete(key: bytes | None = None) -> Recording:
    recording = Recording(key)
    for name in UPDATES:
        recording.show(name)
    recording.end()
    return recording


def expect_colour(page: Page, name: str) -> None:
    wanted = list(COLOURS[name])
    page.wait_for_function(
        """wanted => {
            const canvas = document.querySelector("#picture");
            const corner = (x, y) => [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
            const places = [corner(0, 0), corner(canvas.width - 1, canvas.height - 1)];
            return places.every((place) => place.join() === wanted.join());
        }""",
        arg=wanted,
    )


def seek(page: Page, time_ms: int) -> None:
    page.evaluate(
        """time => {
            const bar = document.querySelector("#position");
            bar.value = time;
            bar.dispatchEvent(new Event("input"));
        }""",
        time_ms,
    )


def open_recording(page: Page, visitor: Visitor) -> None:
    visitor.open(page)
    open_section(page, "Virtual machines")
    page.get_by_role("link", name="Recordings").click()
    page.locator("#list").get_by_role("button", name="web-1").click()
    expect(page.locator("#name")).to_have_text("web-1")


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_recording_is_played_sought_and_sped_up(host: Host, browser: Chromium, key: bytes | None) -> None:
    host.start()
    recording = complete(key)

    def steps(page: Page) -> None:
        open_recording(page, Visitor(host, recording.answer))
        expect_colour(page, "red")
        page.click("#toggle")
        expect(page.locator("body")).to_have_attribute("data-player", "paused")
        for time_ms, name in ((25_000, "blue"), (10_000, "green"), (39_000, "grey"), (0, "red")):
            seek(page, time_ms)
            expect_colour(page, name)
        expect(page.locator("#time")).to_contain_text("/ 00:00:40")
        page.select_option("#speed", "64")
        page.click("#toggle")
        expect_colour(page, "grey")
        expect(page.locator("body")).to_have_attribute("data-player", "paused")
        expect(page.locator("#time")).to_have_text("00:00:40 / 00:00:40")

    browser.run(steps)


def test_a_recording_that_still_runs_is_followed(host: Host, browser: Chromium) -> None:
    host.start()
    recording = Recording()
    recording.show("red")

    def steps(page: Page) -> None:
        open_recording(page, Visitor(host, recording.answer))
        expect_colour(page, "red")
        page.select_option("#speed", "64")
        recording.show("green")
        expect_colour(page, "green")
        recording.show("blue")
        recording.data = recording.data[:-5]  # what was stored ends within a frame
        expect_colour(page, "blue")
        expect(page.locator("body")).to_have_attribute("data-player", "playing")

    browser.run(steps)


def expect_terminal(page: Page, shown: str, hidden: str | None = None) -> None:
    rows = page.locator("#terminal .xterm-rows")
    expect(rows).to_contain_text(shown)
    if hidden is not None:
        expect(rows).not_to_contain_text(hidden)


def test_a_serial_port_is_played_sought_and_sped_up(host: Host, browser: Chromium) -> None:
    """In stock xterm.js, by the page's policy without inline styles."""
    (host.layout.root / "xterm").symlink_to(BUILD / "xterm")
    host.start()
    recording = Recording(KEY, SERIAL)
    recording.write(b"kernel\r\n\x1b[1;31mlogin:\x1b[0m ")
    recording.write(b"root\r\n\x1b]0;title that is cut")  # the gap hides the end of this sequence
    recording.lose()
    recording.write("Grüße\r\n".encode())
    recording.write(b"\x1b[2J\x1b[Hcleared")
    recording.end()

    def steps(page: Page) -> None:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        open_recording(page, Visitor(host, recording.answer))
        expect_terminal(page, "login:")
        expect(page.locator("#picture")).to_be_hidden()
        page.click("#toggle")
        seek(page, 35_000)
        expect_terminal(page, "Grüße", "cleared")
        expect(page.locator("#gap")).to_contain_text("from 00:00:20 to 00:00:30")
        colour = page.locator("#terminal .xterm-rows span", has_text="login:")
        assert colour.evaluate("span => getComputedStyle(span).color") != "rgb(255, 255, 255)"
        seek(page, 0)
        expect_terminal(page, "login:", "root")
        page.select_option("#speed", "64")
        page.click("#toggle")
        expect_terminal(page, "cleared", "Grüße")
        expect(page.locator("#time")).to_have_text("00:00:50 / 00:00:50")
        assert [error for error in errors if "policy" in error.lower()] == []

    browser.run(steps)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_a_video_shows_the_recording(tmp_path: Path, suffix: str) -> None:
    data = complete().data
    file = tmp_path / f"web.{suffix}"
    export(RecordingReader(lambda offset, count: data[offset : offset + count], len(data)), file)
    probe: list[str | Path] = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", file]
    about = json.loads(subprocess.run(probe, check=True, capture_output=True, timeout=60).stdout)
    assert (about["streams"][0]["width"], about["streams"][0]["height"]) == (WIDTH, HEIGHT)
    assert abs(float(about["format"]["duration"]) - 40) < 0.5
    for time_s, name in ((5, "red"), (15, "green"), (25, "blue"), (35, "grey")):
        shot = tmp_path / "shot.png"
        take: list[str | Path] = [
            "ffmpeg",
            "-v",
            "error",
            "-y",
            "-ss",
            str(time_s),
            "-i",
            file,
            "-frames:v",
            "1",
            shot,
        ]
        subprocess.run(take, check=True, timeout=60)
        colour = numpy.asarray(Image.open(shot).convert("RGB")).mean(axis=(0, 1))
        assert abs(colour - COLOURS[name]).max() < 12, (name, colour)
