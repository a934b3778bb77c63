# SPDX-License-Identifier: Apache-2.0
"""Exports a recording as a video file, by ffmpeg: pictures of equal size, so many in each second."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from systemvm.cli.recorded_screen import RecordedScreen
from systemvm.recording.format import FrameKind, RecordingError, is_gap
from systemvm.recording.reader import RecordingReader

#: By the file's ending. Players of every browser know both; x264 needs even sizes.
CODECS = {
    ".mp4": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
    ".webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuv420p"),
}
PICTURES_EACH_S = 10


def pictures(
    recording: RecordingReader, each_s: int = PICTURES_EACH_S, size: tuple[int, int] | None = None
) -> Iterator[Image.Image]:
    """Yield the screen at equal distances of time, on pictures of one size: by default the largest one.

    Raises: RecordingError when the recording cannot be drawn.
    """
    header = recording.header
    screen = RecordedScreen(header.width_px, header.height_px, header.pixel_format)
    width, height = size or largest_size(recording)
    shown = 0
    picture = Image.new("RGB", (width, height))

    def until(time_ms: int) -> Iterator[Image.Image]:
        nonlocal shown
        while shown * 1000 < time_ms * each_s:
            shown += 1
            yield picture

    for frame in recording.play():
        yield from until(frame.time_ms)
        if is_gap(frame):
            screen.skip()
        elif frame.kind is FrameKind.SERVER:
            before = screen.updates
            screen.feed(frame.content)
            if screen.updates != before:
                picture = Image.new("RGB", (width, height))
                picture.paste(screen.image, (0, 0))
    yield from until(max(recording.duration_ms, shown * 1000 // each_s + 1))


def largest_size(recording: RecordingReader) -> tuple[int, int]:
    """Return the width and height that every screen of a recording fits in, both even."""
    header = recording.header
    sizes = [(header.width_px, header.height_px)]
    sizes += [(keyframe.width_px, keyframe.height_px) for keyframe in recording.keyframes]
    width, height = max(width for width, _ in sizes), max(height for _, height in sizes)
    return width + width % 2, height + height % 2


def export(
    recording: RecordingReader, path: Path, on_picture: Callable[[int], None] = lambda number: None
) -> None:
    """Write a recording to a video file, whose ending says its kind: .mp4 or .webm.

    Raises: RecordingError when there is no ffmpeg, the kind is not known, or ffmpeg fails.
    """
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise RecordingError(
            f"cannot export to {path.suffix or path.name}", f"name a file that ends in {', '.join(CODECS)}"
        )
    program = shutil.which("ffmpeg")
    if program is None:
        raise RecordingError("ffmpeg is not installed", "install it: apt-get install ffmpeg")
    width, height = largest_size(recording)
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(PICTURES_EACH_S))
    command = [program, "-nostdin", "-loglevel", "error", "-y", *source, "-i", "pipe:0", *codec, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None and ffmpeg.stderr is not None  # noqa: S101  (both are pipes)
        try:
            for number, picture in enumerate(pictures(recording, size=(width, height)), 1):
                ffmpeg.stdin.write(picture.tobytes())
                on_picture(number)
        except BrokenPipeError:
            pass  # ffmpeg says why
        finally:
            ffmpeg.stdin.close()
        said = ffmpeg.stderr.read().decode("utf-8", "replace").strip()
    if ffmpeg.returncode:
        raise RecordingError(f"ffmpeg failed: {said.splitlines()[-1] if said else ffmpeg.returncode}")
