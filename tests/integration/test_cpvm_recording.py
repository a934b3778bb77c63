# SPDX-License-Identifier: Apache-2.0
"""Consoles of a real QEMU are recorded in a real browser: what is stored shows what the browser showed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium, pixels, wait_for_picture
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import QemuVncServer, free_vnc_port
from rfb_decoder import RfbDecoder
from systemvm.cli.recorded_screen import RecordedScreen
from systemvm.recording.format import FrameKind
from systemvm.recording.reader import RecordingReader

pytestmark = pytest.mark.timeout(300)

__all__ = ["browser"]  # a fixture

KEY = bytes(range(32))
ORDER = {"title": "web-1", "max_bytes": 1 << 30}


@pytest.fixture
def console(tmp_path: Path) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path)
    yield console
    console.close()


@pytest.fixture
def screen() -> Iterator[QemuVncServer]:
    screen = QemuVncServer(None, free_vnc_port())
    yield screen
    screen.close()


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds; the test's own timeout bounds it."""
    while not holds():
        time.sleep(0.05)


def opened(console: ConsoleProcess, recording_id: str, key: bytes | None = None) -> RecordingReader:
    data = (console.root / "recordings" / recording_id).read_bytes()
    return RecordingReader(lambda offset, count: data[offset : offset + count], len(data), key)


def drawn(recording: RecordingReader, from_ms: int = 0) -> RecordedScreen:
    """Draw a recording, and check the drawing by a decoder of its own."""
    header, begin = recording.header, recording.keyframe_at(from_ms)
    size = (header.width_px, header.height_px) if begin is None else (begin.width_px, begin.height_px)
    shown, checked = RecordedScreen(*size, header.pixel_format), RfbDecoder(*size)
    for frame in recording.play(from_ms):
        if frame.kind is FrameKind.SERVER:
            shown.feed(frame.content)
            checked.feed(frame.content)
    assert shown.is_between and (numpy.asarray(shown.image) == checked.pixels).all()
    return shown


def last_picture(page: Page, screen: QemuVncServer) -> bytes:
    """Pause the machine, and return what the browser shows when nothing changes any more."""
    screen.command("stop")
    shown, unchanged = b"", 0
    while unchanged < 3:
        now = pixels(page)
        unchanged = unchanged + 1 if now == shown else 0
        shown = now
        page.wait_for_timeout(500)
    return shown


def ends(console: ConsoleProcess) -> list[tuple[str, str]]:
    return [(call["recording"], call["code"]) for call in console.calls_of("console.recorded")]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_recording_shows_what_the_browser_showed(
    console: ConsoleProcess, screen: QemuVncServer, browser: Chromium
) -> None:
    order = {"recording_id": "rec-1", "key": KEY.hex(), **ORDER}
    token, _ = console.issue(screen.port, is_recorded=True, recording=order)

    def steps(page: Page) -> bytes:
        page.goto(f"{console.origin}/console?cmd=auth&token={token}")
        expect(page.locator("body")).to_have_attribute("data-state", "connected")
        expect(page.locator("#policy")).to_contain_text("Recorded")
        before = wait_for_picture(page)
        page.keyboard.press("Escape")  # the firmware's boot menu
        wait_for_picture(page, before)
        # what was stored so far can be played while the session runs
        eventually((console.root / "recordings/rec-1").is_file)
        assert not opened(console, "rec-1", KEY).is_ended
        # a stop of the agent's unit signals all of its processes; the recorder ends after the agent
        for pid in (
            Path(f"/proc/{console.process.pid}/task/{console.process.pid}/children").read_text().split()
        ):
            os.kill(int(pid), signal.SIGTERM)
        return last_picture(page, screen)

    last = browser.run(steps)
    eventually(lambda: ends(console))
    assert ends(console) == [("rec-1", "complete")]
    recording = opened(console, "rec-1", KEY)
    assert recording.is_ended and recording.header.title == "web-1" and recording.duration_ms > 1000
    assert drawn(recording).image.tobytes() == last
    assert recording.keyframes
    for keyframe in recording.keyframes:
        assert drawn(recording, keyframe.time_ms).image.tobytes() == last
    # removed when the daemon has acknowledged the end
    eventually(lambda: list((console.root / "run/systemvm-agent/recordings").iterdir()) == [])


def test_what_was_recorded_until_a_kill_is_stored_after_the_restart(
    console: ConsoleProcess, screen: QemuVncServer, browser: Chromium
) -> None:
    token, _ = console.issue(screen.port, is_recorded=True, recording={"recording_id": "rec-2", **ORDER})
    spool = console.root / "run/systemvm-agent/recordings"

    def steps(page: Page) -> bytes:
        page.goto(f"{console.origin}/console?cmd=auth&token={token}")
        expect(page.locator("body")).to_have_attribute("data-state", "connected")
        shown = wait_for_picture(page)
        console.order("away", away=True)  # nothing is stored any more
        page.keyboard.press("F12")
        wait_for_picture(page, shown)
        eventually(lambda: spool.is_dir() and len(list(spool.iterdir())) > 1)
        shown = last_picture(page, screen)
        console.kill()
        return shown

    shown = browser.run(steps)
    again = ConsoleProcess(console.root.parent)
    try:
        eventually(lambda: ends(again))
        assert ends(again) == [("rec-2", "interrupted")]
        recording = opened(again, "rec-2")
        assert not recording.is_ended
        assert drawn(recording).image.tobytes() == shown
        eventually(lambda: list(spool.iterdir()) == [])  # when the daemon has acknowledged the end
    finally:
        again.close()


def test_a_console_that_must_be_recorded_ends_with_its_recording(
    console: ConsoleProcess, screen: QemuVncServer, browser: Chromium
) -> None:
    small = {"recording_id": "rec-3", **ORDER, "max_bytes": 20_000, "is_required": True}
    token, _ = console.issue(screen.port, is_recorded=True, recording=small)

    def steps(page: Page) -> None:
        page.goto(f"{console.origin}/console?cmd=auth&token={token}")
        while page.locator("body").get_attribute("data-state") != "closed":
            page.keyboard.press("Escape")
            page.wait_for_timeout(200)
        expect(page.locator("#notice-title")).to_have_text("This console must be recorded, and cannot be now")

    browser.run(steps)
    eventually(lambda: ends(console))
    assert ends(console) == [("rec-3", "too_long")]
