# SPDX-License-Identifier: Apache-2.0
"""CRC-32C by the vectors of RFC 3720, B.4, and with zeros at the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.formats.crc32c import crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_vectors_of_the_rfc(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@given(st.binary(max_size=40), st.integers(0, 200))
def test_zeros_at_the_end_count_bit_by_bit(data: bytes, zeros: int) -> None:
    register = 0xFFFFFFFF
    for byte in data + bytes(zeros):
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data + bytes(zeros)) == register ^ 0xFFFFFFFF
