# SPDX-License-Identifier: Apache-2.0
"""What an answer must look like before a byte of it is believed; used for the probe and for the transfer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from attrs import evolve, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.source_url import USER_URL
from systemvm.wire.transfer_failure import TransferFailure

REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: The server has a reason that passes (RFC 9110, 15; RFC 6585, 4).
UNAVAILABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes +(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_UNPACKED_ENCODINGS = frozenset({"gzip", "x-gzip", "zstd"})
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_DIGITS = re.compile(r"\d{1,19}")


@frozen
class Body:
    """How the body of an answer ends: after `length_bytes`, by chunks, or else with the connection."""

    length_bytes: int | None
    is_chunked: bool
    encoding: str | None = None  # of the bytes as they are sent: they are the file, and unpacked later


Headers = Mapping[str, Sequence[str]]  # names in lower case, all values of each


def require_status(status: int, subject: str = USER_URL) -> None:
    """TransferError in CloudStack's words unless the answer is the whole file; `subject` led to it."""
    if status != 200:
        hints = {
            401: "the URL needs a login; use a signed URL or one that needs none",
            403: "the server forbids it; a signed URL may have expired",
            404: f"the file is not there; check the {subject}",
            410: f"the file is gone; check the {subject}",
            206: "the server sent a part without being asked for one",
            429: "the server is busy; retry the template later",
        }
        hint = hints.get(
            status, "the server has a problem; retry the template later" if status >= 500 else ""
        )
        code = TransferFailure.HTTP_UNAVAILABLE if status in UNAVAILABLE else TransferFailure.HTTP_STATUS
        raise TransferError(code, f"HTTP Server returned {status} (expected 200 OK)", hint)


def read_body(headers: Headers) -> Body:
    """Decide how the body ends; TransferError for what two readers could read differently."""
    encoding = _content_encoding(headers)
    codings = [value.strip().lower() for value in headers.get("transfer-encoding", ())]
    lengths = {value.strip() for value in headers.get("content-length", ())}
    if codings and codings != ["chunked"]:
        raise TransferError(
            TransferFailure.HTTP_INVALID, f"unknown Transfer-Encoding {', '.join(codings)[:60]}"
        )
    if codings and lengths:
        raise TransferError(
            TransferFailure.HTTP_INVALID, "the answer has both Transfer-Encoding and Content-Length"
        )
    if len(lengths) > 1 or not all(_DIGITS.fullmatch(length) for length in lengths):
        raise TransferError(TransferFailure.HTTP_INVALID, "the answer's Content-Length cannot be read")
    if "multipart/byteranges" in "".join(headers.get("content-type", ())).lower():
        raise TransferError(TransferFailure.HTTP_INVALID, "the server sent parts without being asked for any")
    return Body(int(lengths.pop()) if lengths else None, bool(codings), encoding)


def _content_encoding(headers: Headers) -> str | None:
    """Servers send .gz files so, and some compress whatever they serve, unasked.

    What the image's decompression knows by its first bytes is taken: checksum and length are of the bytes
    as sent. TransferError for any other encoding, which only this header tells.
    """
    values = ",".join(headers.get("content-encoding", ())).lower().split(",")
    encodings = [value.strip() for value in values if value.strip() not in ("", "identity")]
    if not encodings:
        return None
    if len(encodings) > 1 or encodings[0] not in _UNPACKED_ENCODINGS:
        raise TransferError(
            TransferFailure.CONTENT_ENCODING,
            f"the server sends the file with Content-Encoding {', '.join(encodings)[:60]}, unasked",
            "have it served as it is, or as gzip or zstd",
        )
    return encodings[0]


@frozen
class ResumePoint:
    """Where a body broke off, and how to know the rest of it."""

    received_bytes: int
    validator: str  # for If-Range: a strong entity tag or a date
    total_bytes: int | None
    encoding: str | None


def read_validator(headers: Headers) -> str | None:
    """A strong validator by RFC 9110, 8.8: an entity tag that is not weak, or a date that is old enough."""
    tags = headers.get("etag", ())
    if len(tags) == 1 and _STRONG_TAG.fullmatch(tags[0].strip()):
        return tags[0].strip()
    modified, sent = headers.get("last-modified", ()), headers.get("date", ())
    if len(modified) != 1 or len(sent) != 1:
        return None
    try:
        age = parsedate_to_datetime(sent[0]) - parsedate_to_datetime(modified[0])
    except (TypeError, ValueError):
        return None
    return modified[0].strip() if age >= timedelta(seconds=1) else None


def require_rest(status: int, headers: Headers, point: ResumePoint, subject: str = USER_URL) -> Body:
    """The body of an answer to a range where another broke off; TransferError when it is not the rest."""
    if status in (HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        raise _changed("the server does not send the rest of it")
    if status != HTTPStatus.PARTIAL_CONTENT:
        require_status(status, subject)
    ranges = headers.get("content-range", ())
    match = _CONTENT_RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
    if match is None or int(match[1]) != point.received_bytes or match[3] == "*":
        raise _changed("the server sends another part than the rest")
    last, total = int(match[2]), int(match[3])
    if last != total - 1:
        raise _changed("the server sends another part than the rest")
    if point.total_bytes is not None and total != point.total_bytes:
        raise _changed(f"the file had {point.total_bytes} bytes, and has {total} now")
    # RFC 9110, 15.3.7: an answer with a part has the entity tag that the whole would have
    tags = [value.strip() for value in headers.get("etag", ())]
    if point.validator.startswith('"') and tags != [point.validator]:
        raise _changed("its entity tag is another one")
    body = read_body(headers)
    if body.encoding != point.encoding or body.length_bytes not in (None, total - point.received_bytes):
        raise _changed("the rest has another length or encoding")
    return evolve(body, length_bytes=None if body.is_chunked else total - point.received_bytes)


def _changed(why: str) -> TransferError:
    return TransferError(
        TransferFailure.SOURCE_CHANGED,
        f"the download broke off and cannot go on: {why}",
        "retry the template",
    )


def total_of_probe(status: int, headers: Headers) -> int | None:
    """The size of the file from the answer to `Range: bytes=0-0`; None when the server does not say."""
    if status == 206:
        ranges = headers.get("content-range", ())
        match = _CONTENT_RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
        if match is None or match[1] != "0":
            raise TransferError(
                TransferFailure.HTTP_INVALID, "the answer's Content-Range is not the one that was asked for"
            )
        return None if match[3] == "*" else int(match[3])
    return read_body(headers).length_bytes


def require_size(size_bytes: int | None, max_size_bytes: int) -> None:
    """TransferError when the announced size is none or too large."""
    if size_bytes == 0:
        raise TransferError(TransferFailure.LENGTH_WRONG, "the file is empty", "check the URL")
    if size_bytes is not None and size_bytes > max_size_bytes:
        raise TransferError(
            TransferFailure.TOO_LARGE,
            f"Download file size is too large: {size_bytes} bytes, the limit is {max_size_bytes}",
        )
