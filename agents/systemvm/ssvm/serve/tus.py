# SPDX-License-Identifier: Apache-2.0
"""The tus resumable upload protocol 1.0 (https://tus.io/protocols/resumable-upload): headers. Sans-IO."""

from __future__ import annotations

import base64
import binascii
import hashlib

from attrs import frozen

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-defer-length,termination,checksum"
#: Names as in the header, and hashlib's.
CHECKSUM_ALGORITHMS = {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512", "md5": "md5"}
CONTENT_TYPE = "application/offset+octet-stream"
#: A body with a checksum is kept in memory until its last byte proves it.
MAX_CHECKED_BYTES = 4 * 1024 * 1024
_MAX_DIGITS = 18


@frozen
class BodyChecksum:
    """What a client promises of one body."""

    algorithm: str
    digest: bytes

    def holds_for(self, body: bytes | bytearray) -> bool:
        return hashlib.new(self.algorithm, body, usedforsecurity=False).digest() == self.digest


def parse_number(text: str) -> int | None:
    """Return a length or an offset; None for anything else.

    >>> parse_number("70"), parse_number("+7"), parse_number("7.0"), parse_number("")
    (70, None, None, None)
    """
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        return None
    return int(text)


def parse_checksum(header: str) -> BodyChecksum | None:
    """Return the value of Upload-Checksum; None when it is malformed or of an unknown algorithm.

    >>> parse_checksum("sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=").algorithm
    'sha1'
    """
    name, _, text = header.partition(" ")
    algorithm = CHECKSUM_ALGORITHMS.get(name.strip().lower())
    if algorithm is None:
        return None
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        return None
    return BodyChecksum(algorithm, digest)


def abilities(max_size_bytes: int) -> list[tuple[str, str]]:
    """Return the headers of the answer to OPTIONS."""
    return [
        ("Tus-Version", VERSION),
        ("Tus-Extension", EXTENSIONS),
        ("Tus-Max-Size", str(max_size_bytes)),
        ("Tus-Checksum-Algorithm", ",".join(CHECKSUM_ALGORITHMS)),
    ]
