# SPDX-License-Identifier: Apache-2.0
"""The one rule by which daemon and SSVM read a checksum."""

from __future__ import annotations

import pytest

from systemvm.wire import checksum
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
def test_every_algorithm_is_known_by_its_name_and_by_the_length_of_its_digest(
    algorithm: ChecksumAlgorithm,
) -> None:
    digest = "a" * algorithm.hex_digits
    wanted = Checksum(algorithm, digest)
    name = algorithm.value
    for text in (f"{{{name}}}{digest}", f"{{{name.lower().replace('-', '')}}}{digest.upper()}", digest):
        assert checksum.parse(f" {text}\n") == wanted
    assert str(wanted) == f"{{{name}}}{digest}"
    assert checksum.parse(str(wanted)) == wanted


def test_a_named_digest_gets_its_zeros_back() -> None:
    assert str(checksum.parse("{SHA-1}abc")) == "{SHA-1}" + "0" * 37 + "abc"


@pytest.mark.parametrize(
    ("text", "why"),
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
def test_what_no_file_can_have_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"checksum|hex digits") as refused:
        checksum.parse(text)
    assert why in str(refused.value)


@pytest.mark.parametrize("text", ["{SHA-256}ab", "ab", " {md5}ab "])
def test_answers_hold_the_bare_digest(text: str) -> None:
    assert checksum.bare_digest(text) == "ab"
