# SPDX-License-Identifier: Apache-2.0
"""CloudStack's checksum syntax."""

from __future__ import annotations

import hashlib

import pytest

from systemvm.ssvm import checksum
from systemvm.ssvm.checksum import Checksum
from systemvm.ssvm.failure import Code, TransferError

LENGTHS = {"MD5": 32, "SHA-1": 40, "SHA-224": 56, "SHA-256": 64, "SHA-384": 96, "SHA-512": 128}


@pytest.mark.parametrize(("algorithm", "digits"), LENGTHS.items())
def test_every_algorithm(algorithm: str, digits: int) -> None:
    given = checksum.parse(f"{{{algorithm.lower()}}}{'A' * digits}")
    assert given == Checksum(algorithm, "a" * digits)
    assert given.start().digest_size * 2 == digits


def test_without_a_prefix_it_is_md5_and_without_a_text_nothing_is_verified() -> None:
    assert checksum.parse("0" * 32) == Checksum("MD5", "0" * 32)
    assert checksum.parse("{SHA256}" + "1" * 64).algorithm == "SHA-256"
    for nothing in (None, "", "  "):
        assert checksum.parse(nothing) == Checksum("SHA-512", None)


@pytest.mark.parametrize(
    "text",
    ["{SHA-3}" + "0" * 64, "{SHA-256}" + "0" * 63, "0" * 64, "{SHA-256}", "{}" + "0" * 32, "xyz",
     "{SHA-256}" + "g" * 64,
     "{MD5}" + "0" * 40, "{SHA-256}{MD5}" + "0" * 32],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(TransferError) as refused:
        checksum.parse(text)
    assert refused.value.code is Code.CHECKSUM_INVALID


def test_verify_speaks_as_cloudstack_does() -> None:
    computed = hashlib.md5(b"x").hexdigest()
    assert checksum.parse(computed.upper()).verify(computed) == f"{{MD5}}{computed}"
    assert Checksum("SHA-512", None).verify("ab") == "{SHA-512}ab"
    with pytest.raises(TransferError) as refused:
        checksum.parse("0" * 32).verify(computed)
    wanted = f'checksum "{{MD5}}{computed}" didn\'t match the given value, "{{MD5}}{"0" * 32}"'
    assert (refused.value.code, refused.value.message) == (Code.CHECKSUM_MISMATCH, wanted)
