# SPDX-License-Identifier: Apache-2.0
"""What an answer must look like before a byte of it is believed; used for the probe and for the transfer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from systemvm.ssvm.failure import Code, TransferError
from systemvm.ssvm.url import USER_URL

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes +(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_UNPACKED_ENCODINGS = frozenset({"gzip", "x-gzip", "zstd"})
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
            404: f"the file is not there; check {subject}",
            410: f"the file is gone; check {subject}",
            206: "the server sent a part without being asked for one",
            429: "the server is busy; register again later",
        }
        hint = hints.get(status, "the server has a problem; register again later" if status >= 500 else "")
        raise TransferError(Code.HTTP_STATUS, f"HTTP Server returned {status} (expected 200 OK)", hint)


def read_body(headers: Headers) -> Body:
    """Decide how the body ends; TransferError for what two readers could read differently."""
    encoding = _content_encoding(headers)
    codings = [value.strip().lower() for value in headers.get("transfer-encoding", ())]
    lengths = {value.strip() for value in headers.get("content-length", ())}
    if codings and codings != ["chunked"]:
        raise TransferError(Code.HTTP_INVALID, f"unknown Transfer-Encoding {', '.join(codings)[:60]}")
    if codings and lengths:
        raise TransferError(Code.HTTP_INVALID, "the answer has both Transfer-Encoding and Content-Length")
    if len(lengths) > 1 or not all(_DIGITS.fullmatch(length) for length in lengths):
        raise TransferError(Code.HTTP_INVALID, "the answer's Content-Length cannot be read")
    if "multipart/byteranges" in "".join(headers.get("content-type", ())).lower():
        raise TransferError(Code.HTTP_INVALID, "the server sent parts without being asked for any")
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
            Code.CONTENT_ENCODING,
            f"the server sends the file with Content-Encoding {', '.join(encodings)[:60]}, unasked",
            "have it served as it is, or as gzip or zstd",
        )
    return encodings[0]


def total_of_probe(status: int, headers: Headers) -> int | None:
    """The size of the file from the answer to `Range: bytes=0-0`; None when the server does not say."""
    if status == 206:
        ranges = headers.get("content-range", ())
        match = _CONTENT_RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
        if match is None or match[1] != "0":
            raise TransferError(
                Code.HTTP_INVALID, "the answer's Content-Range is not the one that was asked for"
            )
        return None if match[3] == "*" else int(match[3])
    return read_body(headers).length_bytes


def require_size(size_bytes: int | None, max_size_bytes: int) -> None:
    """TransferError when the announced size is none or too large."""
    if size_bytes == 0:
        raise TransferError(Code.LENGTH_WRONG, "the file is empty", "check the URL")
    if size_bytes is not None and size_bytes > max_size_bytes:
        raise TransferError(
            Code.TOO_LARGE,
            f"Download file size is too large: {size_bytes} bytes, the limit is {max_size_bytes}",
        )
