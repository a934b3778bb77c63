# SPDX-License-Identifier: Apache-2.0
"""Parses the header of a zstd frame (RFC 8878, 3.1): its size, or the memory that it needs."""

from __future__ import annotations

from attrs import frozen

MAGIC = b"\x28\xb5\x2f\xfd"
#: 0x184D2A50 to 0x184D2A5F, little-endian: frames of user data, which pzstd writes before each frame of
#: content.
_SKIPPABLE = b"\x2a\x4d\x18"
_SKIPPABLE_HEADER_BYTES = 8
_DICTIONARY_ID_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)


@frozen
class Skippable:
    """A frame without content; `size_bytes` includes its header."""

    size_bytes: int


@frozen
class Frame:
    """A frame of content; decoding it needs `window_bytes` of memory."""

    window_bytes: int


def is_skippable(head: bytes) -> bool:
    """Whether `head`, of at least 4 bytes, begins a skippable frame."""
    return head[0] & 0xF0 == 0x50 and head[1:4] == _SKIPPABLE


def read_header(head: bytes) -> Skippable | Frame | None:
    """Parse the header of a frame; return None when `head` is too short for it.

    Raises: ValueError when it is not a zstd frame.
    """
    if len(head) < 4:
        return None
    if is_skippable(head):
        if len(head) < _SKIPPABLE_HEADER_BYTES:
            return None
        return Skippable(_SKIPPABLE_HEADER_BYTES + int.from_bytes(head[4:8], "little"))
    if head[:4] != MAGIC:
        raise ValueError("it has no magic number of zstd")
    if len(head) < 5:
        return None
    descriptor = head[4]
    single_segment = bool(descriptor & 0x20)
    content_size_bytes = _CONTENT_SIZE_BYTES[descriptor >> 6] or int(single_segment)
    position = 5 + (0 if single_segment else 1) + _DICTIONARY_ID_BYTES[descriptor & 3]
    if len(head) < position + content_size_bytes:
        return None
    if not single_segment:
        base = 1 << (10 + (head[5] >> 3))
        return Frame(base + (base >> 3) * (head[5] & 7))
    content_size = int.from_bytes(head[position : position + content_size_bytes], "little")
    return Frame(content_size + 256 if content_size_bytes == 2 else content_size)
