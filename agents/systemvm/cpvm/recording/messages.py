# SPDX-License-Identifier: Apache-2.0
"""What the agent and the recorder's process send each other, beside the entries of their shared log."""

from __future__ import annotations

from typing import Literal

import msgspec
from attrs import frozen

from systemvm.wire.console import ConsoleKind
from systemvm.wire.recording import RecordingOrder

#: To the recorder: look at the log soon, or at once; both are single bytes.
SOON, AT_ONCE = b".", b"!"


@frozen
class RecordingBegin:
    """A connection is recorded from now on: the content of a BEGIN entry."""

    order: RecordingOrder
    kind: ConsoleKind = ConsoleKind.SCREEN
    width_px: int = 0  # of a screen
    height_px: int = 0
    pixel_format: bytes = b""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, content: bytes) -> RecordingBegin:
        return msgspec.json.decode(content, type=cls)


@frozen
class RecorderNotice:
    """A line of the recorder about the recording with a number."""

    number: int
    what: Literal["ended", "full_update", "gap", "resumed"]
    code: str = ""  # a RecordingEnd's value
    width_px: int = 0  # of the screen that is wanted as a whole
    height_px: int = 0

    def encode(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> RecorderNotice:
        """Return a notice.

        Raises: ValueError when the line is none.
        """
        return msgspec.json.decode(line, type=cls)
