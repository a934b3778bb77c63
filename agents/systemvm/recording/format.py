# SPDX-License-Identifier: Apache-2.0
"""The format of a recording: a header, then frames (docs/RECORDINGS.md).

A frame is complete when its checksum, or with a key its authentication tag, holds. So the end of a file
that was cut by a crash is found without a second file.
"""

from __future__ import annotations

import enum
import json
import os
import zlib
from collections.abc import Callable

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from systemvm.service.errors import FailureCode, SystemVmError

MAGIC = b"SVCONREC"
VERSION = 1
MAX_HEADER_BYTES = 4096
MAX_FRAME_BYTES = 1 << 20
KEY_BYTES = 32
#: Nonces count frames in 32 bits; the last number is that of the key's check.
MAX_FRAMES = (1 << 32) - 1

#: Kind, milliseconds since the start, and how many bytes of content follow.
FRAME_HEAD_BYTES = 1 + 6 + 4
_CHECKSUM_BYTES = 4
_TAG_BYTES = 16
_SALT_BYTES = 8


class RecordingError(SystemVmError):
    """A file that is no recording, is damaged before its end, or does not open with this key."""

    code = FailureCode.INVALID


class FrameKind(enum.IntEnum):
    SERVER = 1  # bytes that the VNC server sent after its ServerInit
    KEYFRAME = 2  # a full update of the screen begins at an offset of the server's bytes
    EVENT = 3  # JSON: what happened to the session
    END = 4  # the session ended; without it the recording was interrupted


class RecordingKind(enum.Enum):
    """What a recording shows."""

    SCREEN = "screen"
    SERIAL = "serial"  # what a serial port wrote: text for a terminal


@frozen
class RecordingHeader:
    """What a player needs before the first frame; never a password."""

    width_px: int
    height_px: int
    pixel_format: bytes
    started_unix_ms: int
    title: str = ""
    details: dict[str, str] = field(factory=dict)
    kind: RecordingKind = RecordingKind.SCREEN


@frozen
class Place:
    """Where a frame is, and what is before it."""

    number: int  # of the frame
    begin: int  # of the frame in the file
    offset: int  # of its first byte in the server's bytes

    def encode(self) -> bytes:
        return self.number.to_bytes(4, "big") + self.begin.to_bytes(8, "big") + self.offset.to_bytes(8, "big")

    @classmethod
    def decode(cls, data: bytes) -> Place:
        number, begin, offset = (int.from_bytes(part, "big") for part in (data[:4], data[4:12], data[12:20]))
        return cls(number, begin, offset)


@frozen
class Keyframe:
    """A place from which a recording can be played."""

    time_ms: int
    width_px: int
    height_px: int
    offset: int  # of the update's first byte in the server's bytes
    place: Place  # of the frame that holds that byte

    def encode(self) -> bytes:
        size = self.width_px.to_bytes(2, "big") + self.height_px.to_bytes(2, "big")
        return self.time_ms.to_bytes(6, "big") + size + self.offset.to_bytes(8, "big") + self.place.encode()

    @classmethod
    def decode(cls, data: bytes) -> Keyframe:
        numbers = (data[:6], data[6:8], data[8:10], data[10:18])
        time_ms, width, height, offset = (int.from_bytes(part, "big") for part in numbers)
        return cls(time_ms, width, height, offset, Place.decode(data[18:]))


KEYFRAME_BYTES = 6 + 2 + 2 + 8 + 20
#: Behind the last frame: where it is, so that a reader need not read all the others.
FOOTER_MAGIC = b"SVCONEND"
FOOTER_BYTES = len(FOOTER_MAGIC) + 20


@frozen
class RecordedFrame:
    kind: FrameKind
    time_ms: int
    content: bytes


def is_gap(frame: RecordedFrame) -> bool:
    """Return whether what the server sent before this frame is missing, so that another message follows."""
    if frame.kind is not FrameKind.EVENT:
        return False
    try:
        return bool(json.loads(frame.content).get("event") == "gap")
    except (ValueError, AttributeError):
        return False  # an event of a newer writer


class Codec:
    """Encodes and decodes frames by their number; with a key their content is encrypted by AES-256-GCM.

    The nonce is the frame's number behind the file's random salt, and the head is authenticated. So a
    frame that was changed, moved or left out does not open.
    """

    def __init__(self, header: bytes, key: bytes | None, salt: bytes) -> None:
        self._header = header
        self._salt = salt
        self._cipher = None if key is None else AESGCM(key)
        self.overhead_bytes = _CHECKSUM_BYTES if key is None else _TAG_BYTES

    def encode(self, number: int, frame: RecordedFrame) -> bytes:
        head = bytes((frame.kind,)) + frame.time_ms.to_bytes(6, "big") + len(frame.content).to_bytes(4, "big")
        if self._cipher is None:
            return head + frame.content + _checksum(number, head + frame.content)
        return head + self._cipher.encrypt(self._nonce(number), frame.content, self._header + head)

    def decode(self, number: int, head: bytes, rest: bytes) -> RecordedFrame | None:
        """Return the frame, or None when it is damaged."""
        if self._cipher is None:
            content = rest[:-_CHECKSUM_BYTES]
            if _checksum(number, head + content) != rest[-_CHECKSUM_BYTES:]:
                return None
        else:
            try:
                content = self._cipher.decrypt(self._nonce(number), rest, self._header + head)
            except InvalidTag:
                return None
        try:
            return RecordedFrame(FrameKind(head[0]), int.from_bytes(head[1:7], "big"), content)
        except ValueError:
            return None

    def key_check(self) -> bytes:
        """Return what proves the key: a tag under the number that no frame has. Nothing without a key."""
        return (
            b"" if self._cipher is None else self._cipher.encrypt(self._nonce(MAX_FRAMES), b"", self._header)
        )

    def _nonce(self, number: int) -> bytes:
        return self._salt + number.to_bytes(4, "big")


def _checksum(number: int, data: bytes) -> bytes:
    return zlib.crc32(data, number).to_bytes(_CHECKSUM_BYTES, "big")


def encode_header(header: RecordingHeader, key: bytes | None) -> tuple[bytes, Codec]:
    """Return a file's first bytes, and the codec of its frames.

    Raises: RecordingError when the header is too long, or the key has not 32 bytes.
    """
    salt = os.urandom(_SALT_BYTES)
    members = {
        "width": header.width_px,
        "height": header.height_px,
        "pixel_format": header.pixel_format.hex(),
        "started_unix_ms": header.started_unix_ms,
        "title": header.title,
        "details": header.details,
        "kind": header.kind.value,
        "cipher": None if key is None else "AES-256-GCM",
        "salt": salt.hex(),
    }
    text = json.dumps(members, sort_keys=True).encode("utf-8")
    if len(text) > MAX_HEADER_BYTES:
        raise RecordingError(f"header is too long: {len(text)} bytes, the maximum is {MAX_HEADER_BYTES}")
    _check_key(key)
    data = MAGIC + bytes((VERSION,)) + len(text).to_bytes(4, "big") + text
    data += zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")
    codec = Codec(data, key, salt)
    return data + codec.key_check(), codec


def read_header(read: Callable[[int, int], bytes], key: bytes | None) -> tuple[RecordingHeader, Codec, int]:
    """Return a file's header, the codec of its frames, and where they begin; `read` takes offset and count.

    Raises: RecordingError when there is no valid header, or the key does not fit.
    """
    fixed = len(MAGIC) + 1 + 4
    head = read(0, fixed)
    if len(head) < fixed or not head.startswith(MAGIC):
        raise RecordingError("file is not a recording of a console")
    if head[len(MAGIC)] != VERSION:
        raise RecordingError(f"version of the recording is not supported: {head[len(MAGIC)]}")
    length = int.from_bytes(head[-4:], "big")
    if length > MAX_HEADER_BYTES:
        raise RecordingError(f"header is too long: {length} bytes, the maximum is {MAX_HEADER_BYTES}")
    rest = read(fixed, length + _CHECKSUM_BYTES)
    data = head + rest
    checksum = zlib.crc32(data[:-_CHECKSUM_BYTES]).to_bytes(_CHECKSUM_BYTES, "big")
    if len(rest) < length + _CHECKSUM_BYTES or checksum != rest[-_CHECKSUM_BYTES:]:
        raise RecordingError("header of the recording is damaged")
    try:
        members = json.loads(rest[:-_CHECKSUM_BYTES])
        header = RecordingHeader(
            int(members["width"]),
            int(members["height"]),
            bytes.fromhex(members["pixel_format"]),
            int(members["started_unix_ms"]),
            str(members["title"]),
            {str(name): str(value) for name, value in members["details"].items()},
            RecordingKind(members.get("kind", RecordingKind.SCREEN.value)),
        )
        salt, is_encrypted = bytes.fromhex(members["salt"]), members["cipher"] is not None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RecordingError("header of the recording is damaged") from None
    if is_encrypted != (key is not None):
        raise RecordingError(f"recording is {'' if is_encrypted else 'not '}encrypted")
    _check_key(key)
    if len(salt) != _SALT_BYTES:
        raise RecordingError("header of the recording is damaged")
    codec = Codec(data, key, salt)
    check = codec.key_check()
    if read(len(data), len(check)) != check:
        raise RecordingError("recording was encrypted with another key")
    return header, codec, len(data) + len(check)


def _check_key(key: bytes | None) -> None:
    if key is not None and len(key) != KEY_BYTES:
        raise RecordingError(f"key must have {KEY_BYTES} bytes, not {len(key)}")
