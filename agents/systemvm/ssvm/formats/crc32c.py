# SPDX-License-Identifier: Apache-2.0
"""CRC-32C (RFC 3720, B.4), which VHDX uses; zeros at the end cost nothing: its tables are mostly zeros."""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0x82F63B78


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


@lru_cache(maxsize=64)
def _zeros_matrix(power: int) -> tuple[int, ...]:
    """Return what 2 to the `power` zero bits do to a register, as the images of its 32 bits."""
    if power == 0:
        return (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    half = _zeros_matrix(power - 1)
    return tuple(_times(half, row) for row in half)


def _times(matrix: tuple[int, ...], vector: int) -> int:
    product = 0
    for row in matrix:
        if not vector:
            break
        if vector & 1:
            product ^= row
        vector >>= 1
    return product


_TABLE = _table()


def crc32c(data: bytes) -> int:
    content = data.rstrip(b"\0")
    register = 0xFFFFFFFF
    for byte in content:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 0xFF]
    zero_bits = 8 * (len(data) - len(content))
    for power in range(zero_bits.bit_length()):
        if zero_bits >> power & 1:
            register = _times(_zeros_matrix(power), register)
    return register ^ 0xFFFFFFFF
