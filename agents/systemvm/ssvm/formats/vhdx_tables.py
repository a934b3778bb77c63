# SPDX-License-Identifier: Apache-2.0
"""Headers, region table and metadata table of a VHDX ([MS-VHDX] 2.2 to 2.6), each checked as it is parsed."""

from __future__ import annotations

import struct
import uuid

from attrs import frozen

from systemvm.ssvm.formats.crc32c import crc32c
from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.wire.storage import ImageFormat

MIB = 1 << 20
HEADER_OFFSETS, HEADER_BYTES = (64 * 1024, 128 * 1024), 4096
REGIONS_OFFSET, REGIONS_BYTES = 192 * 1024, 64 * 1024
METADATA_BYTES = 64 * 1024
MAX_ENTRIES = 2047
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = MIB, 256 * MIB
MAX_DISK_BYTES = 64 << 40
REPLAY_HINT = "open and close it in Hyper-V, or convert it with qemu-img convert -O vhdx"
STANDALONE_HINT = "publish a standalone image: merge it with its parent first"

BAT = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
PAGE_83 = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR = uuid.UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
#: The items that every image has, with their sizes in bytes.
ITEMS = {FILE_PARAMETERS: 8, DISK_SIZE: 8, PAGE_83: 16, LOGICAL_SECTOR: 4, PHYSICAL_SECTOR: 4}

_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION = struct.Struct("<16sQII")
_ITEM = struct.Struct("<16sIII")
_REQUIRED_REGION, _REQUIRED_ITEM = 1, 4


@frozen
class VhdxRange:
    """A region of the file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length

    def overlaps(self, other: VhdxRange) -> bool:
        return self.offset < other.end and other.offset < self.end


@frozen
class VhdxHeader:
    sequence: int
    has_log: bool
    log: VhdxRange


def read_headers(both: tuple[bytes, bytes]) -> VhdxHeader:
    """Return the header that counts: the valid one with the higher number.

    Raises: TransferError when there is none, or when its log is not empty.
    """
    found = [header for data in both if (header := _header(data)) is not None]
    if not found:
        damaged(ImageFormat.VHDX, "it has no valid header")
    if len(found) == 2 and found[0].sequence == found[1].sequence and both[0] != both[1]:
        damaged(ImageFormat.VHDX, "its two headers have the same number and differ")
    header = max(found, key=lambda each: each.sequence)
    if header.has_log:
        damaged(ImageFormat.VHDX, "it was not closed cleanly: its log must be replayed", REPLAY_HINT)
    log = header.log
    if log.length and (log.offset % MIB or log.offset < MIB or log.length % MIB):
        damaged(ImageFormat.VHDX, f"its log has {log.length} bytes at byte {log.offset}")
    return header


def _header(data: bytes) -> VhdxHeader | None:
    magic, stored, sequence, _, _, log_guid, log_version, version, log_length, log_offset = (
        _HEADER.unpack_from(data)
    )
    if magic != b"head" or _checksum(data) != stored or version != 1 or log_version != 0:
        return None
    return VhdxHeader(sequence, bool(log_guid.strip(b"\0")), VhdxRange(log_offset, log_length))


def read_regions(data: bytes) -> tuple[VhdxRange, VhdxRange]:
    """Return the regions of the block table and of the metadata.

    Raises: TransferError when one is missing, or an unknown one is required.
    """
    magic, stored, count = struct.unpack_from("<4sII", data)
    if magic != b"regi" or _checksum(data) != stored:
        damaged(ImageFormat.VHDX, "its region table has a wrong checksum")
    if count > MAX_ENTRIES:
        damaged(ImageFormat.VHDX, f"its region table claims {count} entries, the maximum is {MAX_ENTRIES}")
    found: dict[uuid.UUID, VhdxRange] = {}
    for number in range(count):
        kind, offset, length, flags = _REGION.unpack_from(data, 16 + 32 * number)
        region, name = VhdxRange(offset, length), uuid.UUID(bytes_le=kind)
        if offset < MIB or offset % MIB or not length or length % MIB:
            damaged(ImageFormat.VHDX, f"region {number} has {length} bytes at byte {offset}")
        if name in found:
            damaged(ImageFormat.VHDX, f"region {name} occurs twice")
        if any(region.overlaps(other) for other in found.values()):
            damaged(ImageFormat.VHDX, f"region {number} overlaps another one")
        if name not in (BAT, METADATA) and flags & _REQUIRED_REGION:
            unsafe(ImageFormat.VHDX, f"it requires the unknown region {name}", "convert it anew")
        found[name] = region
    if BAT not in found or METADATA not in found:
        damaged(ImageFormat.VHDX, "its block table or its metadata are missing")
    return found[BAT], found[METADATA]


def read_metadata_table(data: bytes, region: VhdxRange) -> dict[uuid.UUID, VhdxRange]:
    """Return where the items are that every image has.

    Raises: TransferError when one is missing, when an unknown one is required, or when there is a parent.
    """
    magic, _, count = struct.unpack_from("<8sHH", data)
    if magic != b"metadata" or count > MAX_ENTRIES:
        damaged(ImageFormat.VHDX, "its metadata table is not valid")
    found: dict[uuid.UUID, VhdxRange] = {}
    for number in range(count):
        kind, offset, length, flags = _ITEM.unpack_from(data, 32 + 32 * number)
        name = uuid.UUID(bytes_le=kind)
        if name in found:
            damaged(ImageFormat.VHDX, f"metadata item {name} occurs twice")
        if name == PARENT_LOCATOR:
            unsafe(
                ImageFormat.VHDX, "it is a differencing disk, which names its parent by path", STANDALONE_HINT
            )
        if name not in ITEMS:
            if flags & _REQUIRED_ITEM:
                unsafe(ImageFormat.VHDX, f"it requires the unknown metadata item {name}", "convert it anew")
            continue
        if offset < METADATA_BYTES or offset + length > region.length or length < ITEMS[name]:
            damaged(ImageFormat.VHDX, f"metadata item {name} has {length} bytes at byte {offset}")
        found[name] = VhdxRange(region.offset + offset, ITEMS[name])
    if missing := ITEMS.keys() - found.keys():
        damaged(ImageFormat.VHDX, f"its metadata item {min(missing)} is missing")
    return found


def _checksum(data: bytes) -> int:
    return crc32c(data[:4] + bytes(4) + data[8:])
