# SPDX-License-Identifier: Apache-2.0
"""CloudStack's checksums: `{ALG}hex` over the file as downloaded; no prefix means MD5."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from attrs import frozen

from systemvm.ssvm.failure import Code, TransferError

if TYPE_CHECKING:
    from hashlib import _Hash

#: CloudStack's names, ours in hashlib. What is registered without a checksum is stored with the last one.
ALGORITHMS = {
    "MD5": "md5",
    "SHA-1": "sha1",
    "SHA-224": "sha224",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
}
DEFAULT_ALGORITHM = "SHA-512"
_SYNTAX = re.compile(r"(?:\{([A-Za-z0-9-]{1,16})\})?([0-9A-Fa-f]{1,128})")


@frozen
class Checksum:
    """What to compute, and what it must come to; `hex` None when nobody said."""

    algorithm: str
    hex: str | None

    def start(self) -> _Hash:
        return hashlib.new(ALGORITHMS[self.algorithm], usedforsecurity=False)

    def verify(self, computed_hex: str) -> str:
        """`{ALG}hex` of what was computed; TransferError in CloudStack's words when another was given."""
        computed = f"{{{self.algorithm}}}{computed_hex}"
        if self.hex is not None and not hmac.compare_digest(self.hex, computed_hex):
            raise TransferError(
                Code.CHECKSUM_MISMATCH,
                f'checksum "{computed}" didn\'t match the given value, "{{{self.algorithm}}}{self.hex}"',
                "compare the checksum with the publisher's; the file may have changed since",
            )
        return computed


def parse(text: str | None) -> Checksum:
    """Read what a user registered; TransferError when it is no checksum.

    >>> parse("{sha-1}" + "0" * 40).algorithm
    'SHA-1'
    """
    if text is None or not text.strip():
        return Checksum(DEFAULT_ALGORITHM, None)
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise TransferError(
            Code.CHECKSUM_INVALID,
            "the checksum is not {ALGORITHM}hexadecimal",
            "for example {SHA-256}0123abcd…",
        )
    algorithm, digest = (match[1] or "MD5").upper(), match[2].lower()
    if algorithm in ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512"):
        algorithm = f"SHA-{algorithm[3:]}"
    if algorithm not in ALGORITHMS:
        raise TransferError(
            Code.CHECKSUM_INVALID,
            f"unknown checksum algorithm {algorithm}",
            f"known: {', '.join(ALGORITHMS)}",
        )
    digits = 2 * hashlib.new(ALGORITHMS[algorithm], usedforsecurity=False).digest_size
    if len(digest) != digits:
        raise TransferError(
            Code.CHECKSUM_INVALID,
            f"a {algorithm} checksum has {digits} digits, not {len(digest)}",
            "" if match[1] else "without {ALGORITHM} in front it is taken for MD5",
        )
    return Checksum(algorithm, digest)
