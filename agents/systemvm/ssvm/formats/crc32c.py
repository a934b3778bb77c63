# SPDX-License-Identifier: Apache-2.0
"""CRC-32C (RFC 3720, B.4), which VHDX uses; zeros at the end cost nothing: its tables are mostly zeros."""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def _zero_bit_matrix() -> list[int]:
    """Return what one zero bit does to a register, as the images of its 32 bits."""
    return [_POLYNOMIAL, *(1 << bit for bit in range(31))]


def _times(matrix: list[int], vector: int) -> int:
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
    matrix = _zero_bit_matrix()
    while zero_bits:
        if zero_bits & 1:
            register = _times(matrix, register)
        zero_bits >>= 1
        if zero_bits:
            matrix = [_times(matrix, row) for row in matrix]
    return register ^ 0xFFFFFFFF
