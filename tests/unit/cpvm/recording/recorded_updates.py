# SPDX-License-Identifier: Apache-2.0
"""Messages of a screen to record, and the recording as it is played."""

from __future__ import annotations

from systemvm.cpvm.rfb import ServerInit
from systemvm.recording.format import FrameKind
from systemvm.recording.reader import RecordingReader

ID = "11111111-1111-4111-8111-111111111111"
OLD_FORMAT = bytes((32, 24, 1, 1)) + b"\0\xff\0\xff\0\xff" + bytes((16, 8, 0)) + bytes(3)
SCREEN = ServerInit(4, 2, OLD_FORMAT, "guest")
REQUEST = b"\3\0" + bytes(4) + b"\0\4\0\2"


def update(colour: int, width: int = 4, height: int = 2) -> bytes:
    """Return an update of a raw rectangle from the corner on."""
    size = width.to_bytes(2, "big") + height.to_bytes(2, "big")
    return b"\0\0\0\1" + bytes(4) + size + bytes(4) + bytes((colour,)) * (4 * width * height)


def played(reader: RecordingReader, from_ms: int = 0) -> bytes:
    return b"".join(frame.content for frame in reader.play(from_ms) if frame.kind is FrameKind.SERVER)
