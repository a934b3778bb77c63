# SPDX-License-Identifier: Apache-2.0
"""Parsing of checksums, shared by daemon and SSVM."""

from __future__ import annotations

import pytest

from systemvm.wire import checksum
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
def test_an_algorithm_is_recognized_by_name_and_by_digest_length(
    algorithm: ChecksumAlgorithm,
) -> None:
    digest = "a" * algorithm.hex_digits
    wanted = Checksum(algorithm, digest)
    name = algorithm.value
    for text in (f"{{{name}}}{digest}", f"{{{name.lower().replace('-', '')}}}{digest.upper()}", digest):
        assert checksum.parse(f" {text}\n") == wanted
    assert str(wanted) == f"{{{name}}}{digest}"
    assert checksum.parse(str(wanted)) == wanted


def test_a_named_digest_is_padded_with_zeros() -> None:
    assert str(checksum.parse("{SHA-1}abc")) == "{SHA-1}" + "0" * 37 + "abc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{sha-1}someInvalidValue", "'someinvalidvalue' is not hexadecimal"),
        ("{SHA-256}{MD5}" + "0" * 32, "is not hexadecimal"),
        ("{md5}", "is not hexadecimal"),
        ("{CRC32}00000000", "unknown checksum algorithm 'CRC32'; known: MD5, SHA-1"),
        ("{}" + "0" * 32, "unknown checksum algorithm"),
        ("{SHA-3}" + "0" * 64, "unknown checksum algorithm"),
        ("{SHA-1}" + "a" * 41, "SHA-1 has 40 hex digits, not 41"),
        ("{MD5}" + "0" * 40, "MD5 has 32 hex digits, not 40"),
        ("a" * 127, "no checksum algorithm has 127 hex digits (MD5 32, "),
        ("abc", "no checksum algorithm has 3 hex digits"),
    ],
)
def test_an_impossible_checksum_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"checksum|hex digits") as refused:
        checksum.parse(text)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["{SHA-256}ab", "ab", " {md5}ab "])
def test_the_bare_digest_has_no_algorithm(text: str) -> None:
    assert checksum.bare_digest(text) == "ab"
