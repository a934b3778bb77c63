# SPDX-License-Identifier: Apache-2.0
"""Messages about recordings of consoles, of CPVMs, SSVMs and the daemon (protocol 3)."""

from __future__ import annotations

import enum

from attrs import field, frozen

from systemvm.wire.store import Store

CONSOLE_RECORD = "console.record"  # agent → daemon: the next piece of a recording; idempotent by offset
CONSOLE_RECORDER = "console.recorder"  # agent → daemon: this second connection delivers recordings
CONSOLE_RECORDED = "console.recorded"  # agent → daemon: nothing more comes of a recording; idempotent
RECORDING_APPEND = "recording.append"  # daemon → agent: the piece for its store; idempotent by offset
RECORDING_READ = "recording.read"  # daemon → agent
RECORDING_DELETE = "recording.delete"  # daemon → agent; idempotent

#: Of a piece: in base64 far below the longest frame.
MAX_PIECE_BYTES = 256 * 1024


class RecordingEnd(enum.Enum):
    """Why a recording ended."""

    COMPLETE = "complete"  # with its session, or with the connection of its browser
    TOO_LONG = "too_long"  # it has as many bytes as a recording may have
    SPOOL_FULL = "spool_full"  # it was not stored as fast as it was recorded, and must have no gap
    SPOOL_FAILED = "spool_failed"
    REFUSED = "refused"  # daemon or store takes no more of it
    UNREADABLE = "unreadable"  # the VNC server sent what cannot be followed
    INTERRUPTED = "interrupted"  # the agent was killed; what it had recorded is stored
    PROXY_LOST = "proxy_lost"  # the CPVM has gone, with the last seconds of it


class RecordingRefusal(enum.Enum):
    """Why a piece is refused: `code` in the data of a REFUSED error."""

    UNKNOWN = "unknown_recording"  # deleted, or never ordered: the CPVM forgets it
    GAP = "recording_gap"  # bytes before it are missing on the store: the CPVM forgets it
    STORE_AWAY = "recording_store_away"  # no SSVM can write it now: the CPVM tries again


@frozen
class RecordingOrder:
    """A connection of a session is recorded under this id."""

    recording_id: str
    title: str
    max_bytes: int
    is_required: bool = False  # the console ends when the recording does
    key: str = field(default="", repr=False)  # hexadecimal, of AES-256-GCM; empty: not encrypted


@frozen
class RecordedPiece:
    recording_id: str
    offset: int  # of its first byte in the file
    data: bytes = field(repr=False)


@frozen
class RecordedEnd:
    recording_id: str
    code: str  # a RecordingEnd's value
    gaps: int = 0  # while the CPVM had no room for what was shown


@frozen
class StoredPiece:
    """A piece of the file of a recording; it is written where it belongs, however often it comes."""

    store: Store
    account_id: int
    recording_id: str
    offset: int
    data: bytes = field(repr=False)


@frozen
class StoredSize:
    size_bytes: int


@frozen
class RecordingRange:
    """What is read of a file: at most MAX_PIECE_BYTES."""

    store: Store
    account_id: int
    recording_id: str
    offset: int
    count: int


@frozen
class RecordingContent:
    data: bytes = field(repr=False)
    size_bytes: int  # of the whole file now


@frozen
class RecordingPlace:
    store: Store
    account_id: int
    recording_id: str
