# SPDX-License-Identifier: Apache-2.0
"""Frames: one message is one line of UTF-8 JSON that ends with LF, at most 1 MiB long and 32 levels deep.

Sans-IO. Limits are checked before the decoder runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from systemvm.rpc.core.errors import PARSE_ERROR, RpcError
from systemvm.service.errors import FailureCode, SystemVmError

MAX_LINE_BYTES = 1024 * 1024  # without its LF
MAX_DEPTH = 32

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")


class LineTooLong(SystemVmError):  # noqa: N818
    """A line exceeds the limit; where the next one begins is unknown, so the connection must be closed."""

    code = FailureCode.PROTOCOL


class LineSplitter:
    """Cuts a stream into lines, and never holds more than one line of maximum length."""

    def __init__(self, limit_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._begun = bytearray()

    def __len__(self) -> int:
        """Bytes of the incomplete line."""
        return len(self._begun)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each line that `data` completes, without its LF.

        Raises: LineTooLong as soon as a line is too long.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._admit(end - start)
            if self._begun:
                self._begun += memoryview(data)[start:end]
                line = bytes(self._begun)
                self._begun.clear()
            else:
                line = data[start:end]
            start = end + 1
            yield line
        self._admit(len(data) - start)
        self._begun += memoryview(data)[start:]

    def _admit(self, more_bytes: int) -> None:
        if len(self._begun) + more_bytes > self._limit_bytes:
            self._begun.clear()
            raise LineTooLong(f"a line is longer than {self._limit_bytes} bytes")


def within_depth(line: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether the arrays and objects of a JSON text nest no deeper than `limit`.

    The result for a text that is not JSON is undefined; the decoder rejects it anyway.
    """
    if line.count(b"[") + line.count(b"{") <= limit:
        return True
    # only the brackets, all of one kind; each pass then removes the innermost pairs, at the speed of C
    brackets = _STRING.sub(b"", line).translate(_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        if not brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def decode(line: bytes) -> Any:
    """Decode one line.

    Raises: RpcError PARSE_ERROR with the reason.
    """
    try:
        line.decode("utf-8")  # the decoder does not check the texts that it skips
    except UnicodeDecodeError as error:
        raise _parse_error(f"not UTF-8 at byte {error.start}") from None
    if not within_depth(line):
        raise _parse_error(f"nested deeper than {MAX_DEPTH}, or brackets that do not pair")
    try:
        decoded = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise _parse_error(str(error)) from None
    if not _members_are_unique(line, decoded):
        raise _parse_error("an object names a member twice")
    return decoded


def encode(message: object) -> bytes:
    """Encode a message as a line with its LF.

    Raises: ValueError when the other end would reject it.
    """
    line = msgspec.json.encode(message)
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"message of {len(line)} bytes is longer than {MAX_LINE_BYTES}; page it")
    if not within_depth(line):
        raise ValueError(f"message is nested deeper than {MAX_DEPTH}")
    return line + b"\n"


def _members_are_unique(line: bytes, decoded: object) -> bool:
    """Whether the decoder kept every member of the text: of two with one name it keeps the last.

    Two programs could otherwise use different ones of them (RFC 8259, section 4).
    """
    kept = _count_members(decoded)
    # each member has one colon outside of texts; most messages have no others
    return line.count(b":") == kept or _STRING.sub(b"", line).count(b":") == kept


def _count_members(decoded: object) -> int:
    count, left = 0, [decoded]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            count += len(value)
            left.extend(each for each in value.values() if isinstance(each, dict | list))
        elif isinstance(value, list):
            left.extend(each for each in value if isinstance(each, dict | list))
    return count


def _parse_error(hint: str) -> RpcError:
    return RpcError(PARSE_ERROR, "parse error", {"hint": hint})
