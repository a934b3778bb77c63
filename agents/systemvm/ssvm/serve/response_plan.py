# SPDX-License-Identifier: Apache-2.0
"""What a request for a file gets: status, headers and parts of the file (RFC 9110, 13 and 14).

Sans-IO: the file is described by its size, time and entity tag.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

from attrs import frozen

from systemvm.ssvm.serve.byte_ranges import ByteRange, parse_ranges

CONTENT_TYPE = "application/octet-stream"
#: Part of a response's body: bytes as they are, or bytes of the file.
Segment = bytes | ByteRange
#: Returns a request header's value by its name in lower case; empty when it is missing.
HeaderOf = Callable[[str], str]


@frozen
class FileFacts:
    """A file at the time of the request; a strong entity tag changes with every change of the file."""

    name: str  # letters, digits, dashes and dots only
    size_bytes: int
    modified_unix_s: int
    entity_tag: str  # without quotes


@frozen
class ResponsePlan:
    code: int
    headers: tuple[tuple[str, str], ...]
    segments: tuple[Segment, ...] = ()

    @property
    def length_bytes(self) -> int:
        return sum(
            len(segment) if isinstance(segment, bytes) else segment.length for segment in self.segments
        )


def plan_response(
    file: FileFacts,
    header_of: HeaderOf,
    *,
    new_boundary: Callable[[], str] = lambda: secrets.token_hex(16),
) -> ResponsePlan:
    """Return the response to GET; one to HEAD has the same headers."""
    entity = (
        ("ETag", f'"{file.entity_tag}"'),
        ("Last-Modified", formatdate(file.modified_unix_s, usegmt=True)),
        ("Accept-Ranges", "bytes"),
    )
    if not _may_proceed(file, header_of):
        return _with_body(412, entity, "text/plain", ())
    if _is_unchanged(file, header_of):
        return ResponsePlan(304, entity)
    headers = (*entity, ("Content-Disposition", f'attachment; filename="{file.name}"'))
    ranges = None
    if header_of("range") and _may_send_part(file, header_of("if-range")):
        ranges = parse_ranges(header_of("range"), file.size_bytes)
    if ranges is None:
        return _with_body(200, headers, CONTENT_TYPE, (ByteRange(0, file.size_bytes),))
    if not ranges:
        return _with_body(416, (*entity, ("Content-Range", f"bytes */{file.size_bytes}")), "text/plain", ())
    if len(ranges) == 1:
        where = _content_range(ranges[0], file)
        return _with_body(206, (*headers, ("Content-Range", where)), CONTENT_TYPE, tuple(ranges))
    boundary = new_boundary()
    segments: list[Segment] = []
    for each in ranges:
        part = f"\r\n--{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\n"
        segments += [f"{part}Content-Range: {_content_range(each, file)}\r\n\r\n".encode("ascii"), each]
    segments.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return _with_body(206, headers, f"multipart/byteranges; boundary={boundary}", tuple(segments))


def _with_body(
    code: int, headers: tuple[tuple[str, str], ...], content_type: str, segments: tuple[Segment, ...]
) -> ResponsePlan:
    segments = tuple(each for each in segments if isinstance(each, bytes) or each.length)
    plan = ResponsePlan(code, headers, segments)
    own = (("Content-Type", content_type), ("Content-Length", str(plan.length_bytes)))
    return ResponsePlan(code, (*headers, *own), segments)


def _content_range(part: ByteRange, file: FileFacts) -> str:
    return f"bytes {part.start}-{part.end - 1}/{file.size_bytes}"


def _may_proceed(file: FileFacts, header_of: HeaderOf) -> bool:
    if wanted := header_of("if-match"):
        return _names_tag(wanted, file, weak=False)
    if since := _date_of(header_of("if-unmodified-since")):
        return file.modified_unix_s <= since
    return True


def _is_unchanged(file: FileFacts, header_of: HeaderOf) -> bool:
    if known := header_of("if-none-match"):
        return _names_tag(known, file, weak=True)
    if since := _date_of(header_of("if-modified-since")):
        return file.modified_unix_s <= since
    return False


def _may_send_part(file: FileFacts, if_range: str) -> bool:
    """Whether the client has parts of this very file: a weak tag proves nothing, nor does a later date."""
    if not if_range:
        return True
    if if_range.startswith('"'):
        return if_range == f'"{file.entity_tag}"'
    return _date_of(if_range) == file.modified_unix_s


def _names_tag(header: str, file: FileFacts, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = [tag.strip() for tag in header.split(",")]
    own = f'"{file.entity_tag}"'
    return own in tags or (weak and f"W/{own}" in tags)


def _date_of(text: str) -> int | None:
    """Return a date of HTTP in seconds; None when it is missing or malformed, which ignores its header."""
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    try:
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
