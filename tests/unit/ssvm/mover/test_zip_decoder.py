# SPDX-License-Identifier: Apache-2.0
"""The one member of a zip: what writers make is taken, whatever its two descriptions differ in is refused."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import DEFAULT, MIB
from systemvm.ssvm.mover.bounded_decoder import BoundedDecoder
from systemvm.ssvm.mover.decompress import PIECE_BYTES
from systemvm.wire.transfer_failure import TransferFailure

DATA = bytes(range(256)) * 3000 + bytes(900_000)
ENCRYPTED, DESCRIPTOR = 1, 8


class OneWay(io.RawIOBase):
    """A stream that cannot seek, so that sizes come behind the file."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


def unpack(data: bytes, piece_bytes: int = 65536, max_size_bytes: int = 1 << 30) -> bytes:
    decoder = BoundedDecoder(max_size_bytes, DEFAULT)
    out: list[bytes | memoryview] = []
    for start in range(0, len(data), piece_bytes):
        out += list(decoder.decode(data[start : start + piece_bytes]))
    out += list(decoder.finish())
    assert all(len(piece) <= PIECE_BYTES for piece in out)
    return b"".join(out)


def refusal(data: bytes, piece_bytes: int = 65536) -> TransferError:
    with pytest.raises(TransferError) as refused:
        unpack(data, piece_bytes)
    return refused.value


def zipped(
    data: bytes = DATA,
    name: str = "disk.img",
    method: int = zipfile.ZIP_DEFLATED,
    *,
    is_stream: bool = False,
    force_zip64: bool = False,
    comment: bytes = b"",
) -> bytes:
    out = OneWay() if is_stream else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        entry = zipfile.ZipInfo(name)
        entry.compress_type = method
        with archive.open(entry, "w", force_zip64=force_zip64) as member:
            member.write(data)
    return out.data if isinstance(out, OneWay) else out.getvalue()


def handmade(
    data: bytes = b"content of the disk",
    *,
    name: bytes = b"disk.img",
    method: int = 8,
    flags: int = 0,
    wide_descriptor: bool = False,
    has_signature: bool = True,
    made_by: int = 0x031E,
    mode: int = 0o100644,
    attributes: int = 0,
    central_name: bytes | None = None,
    central_size: int | None = None,
    offset: int = 0,
    files: int = 1,
    disk: int = 0,
    between: bytes = b"",
    local_extra: bytes = b"",
    zip64_end: bool = False,
) -> bytes:
    """A zip whose two descriptions can differ."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush() if method == 8 else data
    crc = zlib.crc32(data)
    sizes = (0, 0, 0) if flags & DESCRIPTOR else (crc, len(packed), len(data))
    zipfile_bytes = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", 20, flags, method, 0, 0x21, *sizes, len(name), len(local_extra)
    )
    zipfile_bytes += name + local_extra + packed
    if flags & DESCRIPTOR:
        zipfile_bytes += b"PK\7\x08" if has_signature else b""
        zipfile_bytes += struct.pack("<IQQ" if wide_descriptor else "<III", crc, len(packed), len(data))
    zipfile_bytes += between
    directory_at = len(zipfile_bytes)
    named = name if central_name is None else central_name
    directory = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", made_by, 20, flags, method, 0, 0x21, crc, len(packed),
        len(data) if central_size is None else central_size, len(named), 0, 0, disk, 0,
        mode << 16 | attributes, offset,
    )  # fmt: skip
    directory += named
    end64 = b""
    if zip64_end:
        end64 = struct.pack(
            "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, files, files, len(directory), directory_at
        ) + struct.pack("<4sIQI", b"PK\6\7", 0, directory_at + len(directory), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, files, files, len(directory), directory_at, 0)
    return zipfile_bytes + directory + end64 + end


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("piece_bytes", [1, 7, 4096, 1 << 20])
def test_a_zip_of_one_file_is_unpacked(method: int, piece_bytes: int) -> None:
    data = DATA[:5000] if piece_bytes < 10 else DATA
    assert unpack(zipped(data, method=method), piece_bytes) == data
    assert unpack(zipped(data, method=method, force_zip64=True), piece_bytes) == data
    assert unpack(zipped(data, method=method, comment=b"a comment"), piece_bytes) == data
    assert unpack(zipped(data, name="images/disk.img", method=method), piece_bytes) == data


@pytest.mark.parametrize("piece_bytes", [1, 7, 65536])
@pytest.mark.parametrize("wide_descriptor", [False, True])
@pytest.mark.parametrize("has_signature", [False, True])
def test_sizes_can_come_behind_the_file(piece_bytes: int, wide_descriptor: bool, has_signature: bool) -> None:
    packed = handmade(
        DATA[:5000], flags=DESCRIPTOR, wide_descriptor=wide_descriptor, has_signature=has_signature
    )
    assert unpack(packed, piece_bytes) == DATA[:5000]
    assert unpack(zipped(DATA[:5000], is_stream=True), piece_bytes) == DATA[:5000]
    assert unpack(zipped(DATA[:5000], is_stream=True, force_zip64=True), piece_bytes) == DATA[:5000]


def test_the_programs_zip_are_understood(tmp_path: Path) -> None:
    """Info-ZIP and libarchive, from a file and from a pipe."""
    (tmp_path / "disk.img").write_bytes(DATA)
    for command in (
        "bsdtar --format zip -cf - disk.img",
        "zip -q - disk.img",
        "cat disk.img | zip -q - -",
        "zip -q file.zip disk.img && cat file.zip",
        "busybox true; bsdtar --format zip --options zip:compression=store -cf - disk.img",
    ):
        made = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True)
        if made.returncode == 127 or b"not found" in made.stderr:
            continue
        flags, method = struct.unpack_from("<HH", made.stdout, 6)
        if flags & DESCRIPTOR and method == 0:
            assert refusal(made.stdout).code is TransferFailure.ARCHIVE_REFUSED
        else:
            assert unpack(made.stdout) == DATA, command


def several_files() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("disk.img", DATA[:1000])
        archive.writestr("README", b"read me")
    return out.getvalue()


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (several_files(), "several files"),
        (handmade(flags=DESCRIPTOR, between=handmade()), "several files"),
        (handmade(between=handmade()), "several files"),
        (handmade(files=2), "contains 2 files"),
        (handmade(files=0), "contains 0 files"),
        (handmade(flags=ENCRYPTED), "encrypted"),
        (handmade(flags=1 << 6), "encrypted"),
        (handmade(flags=1 << 13), "encrypted"),
        (handmade(flags=1 << 5), "patch"),
        (handmade(method=9), "method 9"),
        (handmade(method=93), "method 93"),
        (handmade(method=0, flags=DESCRIPTOR), "only behind the file"),
        (handmade(name=b"../disk.img"), "leads out"),
        (handmade(name=b"images/../../disk.img"), "leads out"),
        (handmade(name=b"/etc/passwd"), "leads out"),
        (handmade(name=b"..\\disk.img"), "leads out"),
        (handmade(name=b"C:disk.img"), "leads out"),
        (handmade(name=b"a//b"), "leads out"),
        (handmade(name=b"disk\0.img"), "not a name"),
        (handmade(name=b""), "not a name"),
        (handmade(name=b"images/"), "directory"),
        (handmade(mode=0o120777), "regular file"),
        (handmade(mode=0o060666), "regular file"),
        (handmade(attributes=0x10), "regular file"),
        (handmade(disk=1), "several parts"),
        (handmade(between=b"PK\x06\x08" + bytes(100)), "encrypted or signed"),
    ],
)
def test_another_zip_than_one_plain_file_is_refused(packed: bytes, why: str) -> None:
    for piece_bytes in (1, 65536):
        error = refusal(packed, piece_bytes)
        assert error.code is TransferFailure.ARCHIVE_REFUSED
        assert why in error.message
        assert error.hint


@pytest.mark.parametrize(
    "packed",
    [
        handmade(central_name=b"disk.iso"),
        handmade(central_size=3),
        handmade(offset=1),
        handmade(between=b"\0"),
        handmade(flags=DESCRIPTOR, between=b"\0"),
        handmade() + b"\0",
        zipped(comment=b"a comment") + b"!",
        handmade(local_extra=b"\x01\x00\xff\x00"),
        handmade(local_extra=b"\x01\x00\x00\x00" * 2 + b"x"),
    ],
)
def test_two_descriptions_that_differ_are_damage(packed: bytes) -> None:
    assert refusal(packed).code is TransferFailure.DECOMPRESSION
    assert refusal(packed, 1).code is TransferFailure.DECOMPRESSION


def test_every_length_that_lacks_something_is_truncated() -> None:
    packed = handmade(flags=DESCRIPTOR, zip64_end=True)
    assert unpack(packed) == b"content of the disk"
    for length in range(16, len(packed)):
        assert refusal(packed[:length]).code is TransferFailure.DECOMPRESSION


#: Bytes of a handmade zip that no reader needs: versions, times and internal attributes, by their offset in
#: the record, and permissions.
FREE_IN_LOCAL, FREE_IN_CENTRAL, FREE_IN_END64 = (
    {4, 5, 10, 11, 12, 13},
    {6, 7, 12, 13, 14, 15, 36, 37},
    range(12, 16),
)
FREE_IN_CENTRAL_BITS = {4: 0xFF, 5: 0xFF, 38: 0xEF, 39: 0xFF, 40: 0xFF, 41: 0x8F}


def is_padding(packed: bytes, position: int, bit: int) -> bool:
    """Whether a bit is behind the last one of the deflated data, in the same byte."""
    stream = zlib.decompressobj(-15)
    stream.decompress(packed[38:])
    if position != len(packed) - len(stream.unused_data) - 1:
        return False
    changed = bytearray(packed[38 : position + 1])
    changed[-1] ^= 1 << bit
    return zlib.decompressobj(-15).decompress(changed) == b"content of the disk"


@pytest.mark.parametrize("layout", ["plain", "descriptor", "stored", "zip64"])
def test_every_changed_bit_is_refused_or_means_nothing(layout: str) -> None:
    make: dict[str, Callable[[], bytes]] = {
        "plain": handmade,
        "descriptor": lambda: handmade(flags=DESCRIPTOR),
        "stored": lambda: handmade(method=0),
        "zip64": lambda: handmade(zip64_end=True),
    }
    packed = make[layout]()
    central, end64 = packed.index(b"PK\1\2"), packed.find(b"PK\6\6")
    for position in range(4, len(packed)):  # the first four bytes make it a zip
        for bit in range(8):
            changed = bytearray(packed)
            changed[position] ^= 1 << bit
            free = position in FREE_IN_LOCAL or position - central in FREE_IN_CENTRAL
            free = free or (end64 >= 0 and position - end64 in FREE_IN_END64)
            free = free or bool(FREE_IN_CENTRAL_BITS.get(position - central, 0) & 1 << bit)
            # sizes in front of a file whose sizes are behind it, and hints about the compressor
            free = free or (layout == "descriptor" and 14 <= position < 26)
            free = free or (layout != "stored" and is_padding(packed, position, bit))
            # the number of disks in the locator can be 0 or 1
            free = free or (end64 >= 0 and (position, bit) == (end64 + 56 + 16, 0))
            if free:
                assert unpack(bytes(changed)) == b"content of the disk", (position, bit)
            else:
                code = refusal(bytes(changed)).code
                assert code in (TransferFailure.DECOMPRESSION, TransferFailure.ARCHIVE_REFUSED)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=4, max_size=300), st.integers(1, 50))
def test_any_bytes_behind_the_signature_end_in_a_code(data: bytes, piece_bytes: int) -> None:
    assert refusal(b"PK\3\4" + data + bytes(16), piece_bytes).code in (
        TransferFailure.DECOMPRESSION,
        TransferFailure.ARCHIVE_REFUSED,
    )


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=5000), st.sampled_from([0, 8]), st.integers(1, 200), st.booleans())
def test_any_content_is_unpacked(content: bytes, method: int, piece_bytes: int, force_zip64: bool) -> None:
    assert unpack(zipped(content, method=method, force_zip64=force_zip64), piece_bytes) == content


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_bomb_ends_at_the_size_limit(method: int) -> None:
    bomb = zipped(bytes(32 * MIB), method=method)
    decoder = BoundedDecoder(4 * MIB, DEFAULT)
    with pytest.raises(TransferError) as refused:
        for _ in decoder.decode(bomb):
            pass
    assert refused.value.code is TransferFailure.TOO_LARGE
    assert decoder.produced_bytes <= 5 * MIB


def test_a_bomb_ends_at_the_ratio_limit() -> None:
    decoder = BoundedDecoder(1 << 40, evolve(DEFAULT, ratio_free_bytes=MIB, max_ratio=100))
    with pytest.raises(TransferError, match=r"more than 100 times"):
        for _ in decoder.decode(zipped(bytes(16 * MIB))):
            pass
