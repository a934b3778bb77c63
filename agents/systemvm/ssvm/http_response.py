# SPDX-License-Identifier: Apache-2.0
"""Checks of a response's head before its body is used; the same for the probe and for the transfer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from attrs import evolve, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.source_url import USER_URL
from systemvm.wire.transfer_failure import TransferFailure

REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: The server cannot answer at the moment (RFC 9110, 15; RFC 6585, 4).
UNAVAILABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes +(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_UNPACKED_ENCODINGS = frozenset({"gzip", "x-gzip", "zstd"})
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_SERVER_HINT = "fix the server or the proxy in front of it"
_DIGITS = re.compile(r"\d{1,19}")


@frozen
class Body:
    """How the body of a response ends: after `length_bytes`, by chunks, or otherwise with the connection."""

    length_bytes: int | None
    is_chunked: bool
    encoding: str | None = None  # of the bytes as sent; they are the file, and are decompressed later


Headers = Mapping[str, Sequence[str]]  # names in lower case, all values of each


def require_status(status: int, subject: str = USER_URL, headers: Headers | None = None) -> None:
    """Check the status of a response for a whole file; `subject` is the URL in hints.

    The error says when the server wants to be asked again, if it is in `headers`.

    Raises: TransferError, in CloudStack's words, unless the response is the whole file.
    """
    if status != 200:
        hints = {
            401: "register it with sourceusername and sourcepassword, or with a signed URL",
            403: "check the permissions of the file; a signed URL can have expired",
            404: f"check the {subject}: the file does not exist",
            410: f"check the {subject}: the file was removed",
            206: "fix the server: it sent a part that was not requested",
            429: "retry the template later: the server is busy",
        }
        hint = hints.get(
            status, "retry the template later: the server has a problem" if status >= 500 else ""
        )
        code = TransferFailure.HTTP_UNAVAILABLE if status in UNAVAILABLE else TransferFailure.HTTP_STATUS
        error = TransferError(code, f"HTTP Server returned {status} (expected 200 OK)", hint)
        error.retry_after_s = read_retry_after(headers or {})
        raise error


def read_retry_after(headers: Headers) -> float | None:
    """Return how long the server wants to be left alone, in seconds (RFC 9110, 10.2.3)."""
    values = headers.get("retry-after", ())
    if len(values) != 1:
        return None
    text = values[0].strip()
    if _DIGITS.fullmatch(text):
        return float(text)
    # by its own clock, as ours can be wrong
    date, sent = _date(text), _date(headers.get("date", ("",))[0])
    return None if date is None or sent is None else max(0.0, (date - sent).total_seconds())


def _date(text: str) -> datetime | None:
    """Parse a date of HTTP; None for anything else, whichever error the library has for it."""
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def read_body(headers: Headers) -> Body:
    """Return how the body ends.

    Raises: TransferError for headers that two programs could read differently.
    """
    encoding = _content_encoding(headers)
    codings = [value.strip().lower() for value in headers.get("transfer-encoding", ())]
    lengths = {value.strip() for value in headers.get("content-length", ())}
    if codings and codings != ["chunked"]:
        raise TransferError(
            TransferFailure.HTTP_INVALID,
            f"unknown Transfer-Encoding: {', '.join(codings)[:60]}",
            _SERVER_HINT,
        )
    if codings and lengths:
        raise TransferError(
            TransferFailure.HTTP_INVALID,
            "response has both Transfer-Encoding and Content-Length",
            _SERVER_HINT,
        )
    if len(lengths) > 1 or not all(_DIGITS.fullmatch(length) for length in lengths):
        raise TransferError(
            TransferFailure.HTTP_INVALID, "Content-Length of the response is not a number", _SERVER_HINT
        )
    if "multipart/byteranges" in "".join(headers.get("content-type", ())).lower():
        raise TransferError(
            TransferFailure.HTTP_INVALID, "the server sent parts that were not requested", _SERVER_HINT
        )
    return Body(int(lengths.pop()) if lengths else None, bool(codings), encoding)


def _content_encoding(headers: Headers) -> str | None:
    """Return the encoding in which the server sends the file although none was requested.

    Servers send .gz files so, and some compress everything. An encoding that decompression recognizes by the
    first bytes is accepted; checksum and length are those of the bytes as sent.

    Raises: TransferError for any other encoding, which only this header would reveal.
    """
    values = ",".join(headers.get("content-encoding", ())).lower().split(",")
    encodings = [value.strip() for value in values if value.strip() not in ("", "identity")]
    if not encodings:
        return None
    if len(encodings) > 1 or encodings[0] not in _UNPACKED_ENCODINGS:
        raise TransferError(
            TransferFailure.CONTENT_ENCODING,
            f"unsupported Content-Encoding {', '.join(encodings)[:60]}, which was not requested",
            "serve the file as it is, or as gzip or zstd",
        )
    return encodings[0]


@frozen
class ResumePoint:
    """Where a body broke off, and what identifies the rest of it."""

    received_bytes: int
    #: For If-Range: a strong entity tag or a date. None: a checksum and the size are all that identifies it.
    validator: str | None
    total_bytes: int | None
    encoding: str | None
    is_plain: bool = False  # without If-Range, which some servers do not honour: the validator is compared


class IfRangeIgnoredError(TransferError):
    """The server sends the whole of the same file: it honours Range perhaps, but not this If-Range."""


def read_validator(headers: Headers) -> str | None:
    """Return a strong validator (RFC 9110, 8.8): an entity tag that is not weak, or an older date."""
    tags = headers.get("etag", ())
    if len(tags) == 1 and _STRONG_TAG.fullmatch(tags[0].strip()):
        return tags[0].strip()
    modified, sent = headers.get("last-modified", ()), headers.get("date", ())
    if len(modified) != 1 or len(sent) != 1:
        return None
    date, now = _date(modified[0]), _date(sent[0])
    if date is None or now is None or now - date < timedelta(seconds=1):
        return None
    return modified[0].strip()


def _has_validator(headers: Headers, validator: str) -> bool | None:
    """Whether a response is of the file with this tag or date; None when it says nothing about a date.

    RFC 9110, 15.3.7: a partial response has the entity tag of the whole, and can leave out its date.
    """
    is_tag = validator.startswith('"')
    values = [value.strip() for value in headers.get("etag" if is_tag else "last-modified", ())]
    return None if not values and not is_tag else values == [validator]


def require_rest(status: int, headers: Headers, point: ResumePoint, subject: str = USER_URL) -> Body:
    """Return the body of the response to a request for the rest.

    Raises: TransferError when it is not the rest of the same file.
    """
    is_same = None if point.validator is None else _has_validator(headers, point.validator)
    if status == HTTPStatus.OK and is_same and not point.is_plain:
        raise IfRangeIgnoredError(
            TransferFailure.CONNECTION_LOST,
            "the server does not honour If-Range",
            "retry the template",
        )
    if status in (HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        raise _changed("the server does not send the rest")
    if status != HTTPStatus.PARTIAL_CONTENT:
        require_status(status, subject, headers)
    ranges = headers.get("content-range", ())
    match = _CONTENT_RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
    if match is None or int(match[1]) != point.received_bytes or match[3] == "*":
        raise _changed("the server sends a different part")
    last, total = int(match[2]), int(match[3])
    if last != total - 1:
        raise _changed("the server sends a different part")
    if point.total_bytes is not None and total != point.total_bytes:
        raise _changed(f"its size changed from {point.total_bytes} to {total} bytes")
    if is_same is False or (point.is_plain and not is_same):
        raise _changed("its entity tag or date changed")
    body = read_body(headers)
    if body.encoding != point.encoding or body.length_bytes not in (None, total - point.received_bytes):
        raise _changed("its length or encoding changed")
    return evolve(body, length_bytes=None if body.is_chunked else total - point.received_bytes)


def require_part(status: int, headers: Headers, point: ResumePoint, start: int, end: int) -> None:
    """Check the response to a request for the bytes from `start` to `end`.

    Raises: TransferError when it is not exactly that part of the same file.
    """
    if status in (HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        raise _changed("the server does not send a part")
    if status != HTTPStatus.PARTIAL_CONTENT:
        require_status(status, headers=headers)
    ranges = headers.get("content-range", ())
    match = _CONTENT_RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
    wanted = (str(start), str(end - 1), str(point.total_bytes))
    if match is None or tuple(part.lstrip("0") or "0" for part in match.groups()) != wanted:
        raise _changed("the server sends a different part")
    if point.validator is not None and _has_validator(headers, point.validator) is False:
        raise _changed("its entity tag or date changed")
    body = read_body(headers)
    if body.encoding is not None or body.length_bytes not in (None, end - start):
        raise _changed("its length or encoding changed")


def _changed(why: str) -> TransferError:
    return TransferError(
        TransferFailure.SOURCE_CHANGED,
        f"the download broke off and cannot be resumed: {why}",
        "retry the template",
    )


def total_of_probe(status: int, headers: Headers) -> int | None:
    """Return the size of the file from the response to `Range: bytes=0-0`; None when it is not announced."""
    if status == 206:
        ranges = headers.get("content-range", ())
        match = _CONTENT_RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
        if match is None or match[1] != "0":
            raise TransferError(
                TransferFailure.HTTP_INVALID,
                "Content-Range of the response is not the requested one",
                _SERVER_HINT,
            )
        return None if match[3] == "*" else int(match[3])
    return read_body(headers).length_bytes


def require_size(size_bytes: int | None, max_size_bytes: int) -> None:
    """Check the announced size of the file.

    Raises: TransferError when the announced size is 0 or too large.
    """
    if size_bytes == 0:
        raise TransferError(TransferFailure.LENGTH_WRONG, "the file is empty", "check the URL")
    if size_bytes is not None and size_bytes > max_size_bytes:
        raise TransferError(
            TransferFailure.TOO_LARGE,
            f"Download file size is too large: {size_bytes} bytes, the limit is {max_size_bytes}",
            "use a smaller image, or raise max_template_size_bytes of the zone",
        )
