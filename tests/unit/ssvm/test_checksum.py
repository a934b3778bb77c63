# SPDX-License-Identifier: Apache-2.0
"""The checksum of a download, and the error for a mismatch."""

from __future__ import annotations

import hashlib

import pytest

from systemvm.ssvm import checksum
from systemvm.ssvm.checksum import Verification
from systemvm.ssvm.failure import TransferError
from systemvm.wire.checksum import ChecksumAlgorithm
from systemvm.wire.transfer_failure import TransferFailure


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
def test_every_algorithm_computes_a_digest_of_its_length(algorithm: ChecksumAlgorithm) -> None:
    assert len(Verification(algorithm).start().hexdigest()) == algorithm.hex_digits


def test_the_length_selects_the_algorithm_and_an_empty_checksum_is_not_verified() -> None:
    assert checksum.parse("0" * 32).algorithm is ChecksumAlgorithm.MD5
    assert checksum.parse("1" * 128).algorithm is ChecksumAlgorithm.SHA_512
    for nothing in (None, "", "  "):
        assert checksum.parse(nothing) == Verification(ChecksumAlgorithm.SHA_512)


def test_an_invalid_checksum_has_its_code() -> None:
    with pytest.raises(TransferError) as refused:
        checksum.parse("{SHA-256}xyz")
    assert refused.value.code is TransferFailure.CHECKSUM_INVALID
    assert "not hexadecimal" in refused.value.message


def test_a_mismatch_has_the_message_of_cloudstack() -> None:
    computed = hashlib.md5(b"x").hexdigest()
    assert checksum.parse(computed.upper()).verify(computed) == f"{{MD5}}{computed}"
    assert Verification(ChecksumAlgorithm.SHA_512).verify("ab") == "{SHA-512}ab"
    with pytest.raises(TransferError) as refused:
        checksum.parse("0" * 32).verify(computed)
    wanted = f'checksum "{{MD5}}{computed}" didn\'t match the given value, "{{MD5}}{"0" * 32}"'
    assert (refused.value.code, refused.value.message) == (TransferFailure.CHECKSUM_MISMATCH, wanted)


def test_a_mismatch_of_encoded_bytes_has_a_hint() -> None:
    with pytest.raises(TransferError) as refused:
        checksum.parse("0" * 32).verify("1" * 32, "gzip")
    assert refused.value.hint == "give the checksum of the bytes as the server sends them, encoded as gzip"
