# SPDX-License-Identifier: Apache-2.0
"""Decompression: several members, damage, and limits of size, ratio and memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest
import zstandard
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import DEFAULT, MIB
from systemvm.ssvm.mover.bounded_decoder import BoundedDecoder
from systemvm.ssvm.mover.decompress import PIECE_BYTES
from systemvm.wire.transfer_failure import TransferFailure

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress,
}  # fmt: skip
DATA = bytes(range(256)) * 3000 + bytes(900_000)


def unpack(data: bytes, piece_bytes: int = 65536, max_size_bytes: int = 1 << 30) -> bytes:
    decoder = BoundedDecoder(max_size_bytes, DEFAULT)
    out = []
    for start in range(0, len(data), piece_bytes):
        out += list(decoder.decode(data[start : start + piece_bytes]))
    out += list(decoder.finish())
    assert all(len(piece) <= PIECE_BYTES for piece in out)
    return b"".join(out)


def refusal(data: bytes, **more: int) -> TransferFailure:
    with pytest.raises(TransferError) as refused:
        unpack(data, **more)
    return refused.value.code


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("piece_bytes", [7, 4096, 1 << 20])
def test_concatenated_members_are_unpacked(name: str, piece_bytes: int) -> None:
    packed = COMPRESS[name](DATA[:1000]) + COMPRESS[name](b"") + COMPRESS[name](DATA[1000:20_000])
    assert unpack(packed, piece_bytes) == DATA[:20_000]
    assert unpack(COMPRESS[name](DATA)) == DATA


@pytest.mark.parametrize("name", COMPRESS)
def test_truncated_and_damaged_files_are_rejected(name: str) -> None:
    packed = COMPRESS[name](DATA)
    assert refusal(packed[:-5]) is TransferFailure.DECOMPRESSION
    assert refusal(packed + b"trailing garbage") is TransferFailure.DECOMPRESSION
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    damaged[-3] ^= 0xFF
    assert (
        name == "zstd" or refusal(bytes(damaged)) is TransferFailure.DECOMPRESSION
    )  # zstd's checksum is optional


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_trailing_padding_is_accepted(name: str) -> None:
    assert unpack(COMPRESS[name](DATA) + bytes(512)) == DATA


@pytest.mark.parametrize("name", COMPRESS)
def test_decompression_stops_at_the_size_limit(name: str) -> None:
    bomb = COMPRESS[name](bytes(64 * MIB))
    decoder = BoundedDecoder(4 * MIB, DEFAULT)
    with pytest.raises(TransferError) as refused:
        for _ in decoder.decode(bomb):
            pass
    assert refused.value.code is TransferFailure.TOO_LARGE
    assert decoder.produced_bytes <= 5 * MIB


def test_decompression_stops_at_the_ratio_limit() -> None:
    limits = evolve(DEFAULT, ratio_free_bytes=MIB, max_ratio=100)
    decoder = BoundedDecoder(1 << 40, limits)
    with pytest.raises(TransferError, match=r"more than 100 times"):
        for _ in decoder.decode(gzip.compress(bytes(16 * MIB))):
            pass


@pytest.mark.parametrize("head", [b"7z\xbc\xaf\x27\x1c", b"\x89LZO\x00\r\n\x1a\n"])
def test_an_unsupported_compression_is_reported(head: bytes) -> None:
    assert refusal(head + bytes(100)) is TransferFailure.DECOMPRESSION


def test_a_large_dictionary_needs_more_memory_than_the_limit() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 192 << 20}]
    with pytest.raises(TransferError) as refused:
        unpack(lzma.compress(b"x" * 1000, lzma.FORMAT_XZ, filters=filters))
    assert refused.value.code is TransferFailure.MEMORY_LIMIT
    assert "needs more memory than the limit of 128 MiB" in refused.value.message
    assert "at most 64 MiB" in refused.value.hint


@pytest.mark.parametrize("window_log", [28, 31])
@pytest.mark.parametrize("piece_bytes", [1, 65536])
def test_a_large_window_needs_more_memory_than_the_limit(window_log: int, piece_bytes: int) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # without a content size
    with pytest.raises(TransferError) as refused:
        unpack(stream.compress(DATA) + stream.flush(), piece_bytes)
    assert refused.value.code is TransferFailure.MEMORY_LIMIT
    assert f"needs {1 << (window_log - 20)} MiB" in refused.value.message
    assert "limit of 128 MiB" in refused.value.message
    assert "--long=27" in refused.value.hint


def test_the_largest_window_and_dictionary_within_the_limit_are_unpacked() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert unpack(stream.compress(DATA) + stream.flush()) == DATA
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]
    assert unpack(lzma.compress(DATA, lzma.FORMAT_XZ, filters=filters)) == DATA


def skippable(content: bytes, number: int = 0) -> bytes:
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize("piece_bytes", [1, 3, 17, 65536])
def test_skippable_frames_are_skipped(piece_bytes: int) -> None:
    """pzstd writes one before every frame of content."""
    packed = (
        skippable(b"size") + zstandard.compress(DATA[:5000]) + skippable(b"", 15) + skippable(bytes(3000), 7)
        + zstandard.compress(DATA[5000:9000]) + skippable(b"end")
    )  # fmt: skip
    assert unpack(packed, piece_bytes) == DATA[:9000]
    assert refusal(packed[:-1], piece_bytes=piece_bytes) is TransferFailure.DECOMPRESSION


@pytest.mark.parametrize(
    "packed", [skippable(b"nothing else in the file"), skippable(b"truncated")[:-3], skippable(b"")]
)
def test_skippable_frames_without_content_are_rejected(packed: bytes) -> None:
    assert refusal(packed) is TransferFailure.DECOMPRESSION


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=5000), st.sampled_from([None, *COMPRESS]), st.integers(1, 200))
def test_any_content_is_unpacked_from_any_pieces(content: bytes, name: str | None, piece_bytes: int) -> None:
    content = b"plain" + content
    assert unpack(COMPRESS[name](content) if name else content, piece_bytes) == content
