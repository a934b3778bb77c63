# SPDX-License-Identifier: Apache-2.0
"""Checksums as CloudStack's users write them: `{ALG}hex`, or only the hexadecimal digits (DigestHelper.java).

The daemon and the SSVM read a checksum with this one rule. Without `{ALG}` CloudStack takes MD5; publishers
print 64 or 128 digits without a name, and their length leaves only one algorithm that they can be of.
"""

from __future__ import annotations

import enum
import re

from attrs import frozen

_SYNTAX = re.compile(r"(?:\{(?P<algorithm>[^{}]*)\})?(?P<digest>.*)", re.DOTALL)
_HEX = re.compile(r"[0-9a-f]+")
_SHOWN_CHARACTERS = 32


class ChecksumAlgorithm(enum.Enum):
    """CloudStack's names of the algorithms."""

    MD5 = "MD5"
    SHA_1 = "SHA-1"
    SHA_224 = "SHA-224"
    SHA_256 = "SHA-256"
    SHA_384 = "SHA-384"
    SHA_512 = "SHA-512"

    @property
    def hashlib_name(self) -> str:
        return self.value.replace("-", "").lower()

    @property
    def hex_digits(self) -> int:
        """Length of a digest in hexadecimal digits."""
        return _HEX_DIGITS[self]

    @classmethod
    def named(cls, text: str) -> ChecksumAlgorithm:
        """Return the algorithm of a name in any case, with or without the hyphen.

        Raises: ValueError when the name is unknown.
        """
        name = text.strip().upper().replace("-", "")
        for algorithm in cls:
            if algorithm.value.replace("-", "") == name:
                return algorithm
        known = ", ".join(one.value for one in cls)
        raise ValueError(f"unknown checksum algorithm {text[:_SHOWN_CHARACTERS]!r}; known: {known}")


_HEX_DIGITS = {
    ChecksumAlgorithm.MD5: 32,
    ChecksumAlgorithm.SHA_1: 40,
    ChecksumAlgorithm.SHA_224: 56,
    ChecksumAlgorithm.SHA_256: 64,
    ChecksumAlgorithm.SHA_384: 96,
    ChecksumAlgorithm.SHA_512: 128,
}
_BY_LENGTH = {digits: algorithm for algorithm, digits in _HEX_DIGITS.items()}


@frozen
class Checksum:
    """An algorithm and the expected digest, in lower-case hexadecimal."""

    algorithm: ChecksumAlgorithm
    hex: str

    def __str__(self) -> str:
        return f"{{{self.algorithm.value}}}{self.hex}"


def parse(text: str) -> Checksum:
    """Parse a checksum as a user registers it.

    A digest with an algorithm that is too short is padded with zeros in front, as in CloudStack, because some
    tools drop them.

    Raises: ValueError when no file can have this checksum.

    >>> str(parse("{sha1}" + "A" * 40)) == "{SHA-1}" + "a" * 40
    True
    >>> parse("0" * 64).algorithm
    <ChecksumAlgorithm.SHA_256: 'SHA-256'>
    """
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise ValueError("checksum is invalid; write it as {ALGORITHM}hexadecimal")
    digest = match["digest"].strip().lower()
    if not _HEX.fullmatch(digest):
        raise ValueError(
            f"the checksum's digest {digest[:_SHOWN_CHARACTERS]!r} is not hexadecimal;"
            " write it as {ALGORITHM}hexadecimal"
        )
    if match["algorithm"] is None:
        algorithm = _BY_LENGTH.get(len(digest))
        if algorithm is None:
            lengths = ", ".join(f"{one.value} {one.hex_digits}" for one in ChecksumAlgorithm)
            raise ValueError(
                f"no checksum algorithm has {len(digest)} hex digits ({lengths});"
                " copy all of it, or put {ALGORITHM} in front"
            )
        return Checksum(algorithm, digest)
    algorithm = ChecksumAlgorithm.named(match["algorithm"])
    if len(digest) > algorithm.hex_digits:
        raise ValueError(f"{algorithm.value} has {algorithm.hex_digits} hex digits, not {len(digest)}")
    return Checksum(algorithm, digest.zfill(algorithm.hex_digits))


def is_url(text: str) -> bool:
    """Return whether the checksum is to be found in a file at this URL.

    >>> is_url("https://images.example.test/SHA256SUMS"), is_url("{SHA-256}00")
    (True, False)
    """
    return "://" in text


def bare_digest(text: str) -> str:
    """The digest without `{ALG}`, as CloudStack's answers hold it; other text stays as it is."""
    match = _SYNTAX.fullmatch(text.strip())
    return match["digest"] if match else text
