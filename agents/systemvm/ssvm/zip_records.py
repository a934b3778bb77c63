# SPDX-License-Identifier: Apache-2.0
"""Parses the records of a zip file (PKWARE's APPNOTE 6.3.10) that has one member, and compares them.

Sans-IO. A zip describes its member twice: in front of it and behind it, in the central directory. Readers
differ in which of the two they believe, so whatever differs here is refused.
"""

from __future__ import annotations

import struct

from attrs import frozen

from systemvm.service.errors import SystemVmError

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END64, LOCATOR64, DESCRIPTOR = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
STORED, DEFLATED = 0, 8
_ENCRYPTED, _HAS_DESCRIPTOR, _PATCHED, _STRONG, _MASKED = 1 << 0, 1 << 3, 1 << 5, 1 << 6, 1 << 13
_ZIP64_EXTRA = 0x0001
_NONE16, _NONE32 = 0xFFFF, 0xFFFFFFFF  # the value is in a zip64 record
_UNIX, _FILE_TYPE = 3, 0o170000
_PLAIN_TYPES = frozenset({0, 0o100000, 0o010000})  # a file, or what was read from a pipe
_DOS_DIRECTORY = 0x10

_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL_HEADER = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END_RECORD = struct.Struct("<4sHHHHIIH")
_END64_RECORD = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64_RECORD = struct.Struct("<4sIQI")
#: Up to the lengths of what follows each.
LOCAL_BYTES, CENTRAL_BYTES, END_BYTES = _LOCAL_HEADER.size, _CENTRAL_HEADER.size, _END_RECORD.size
END64_BYTES, LOCATOR64_BYTES = _END64_RECORD.size, _LOCATOR64_RECORD.size


class RefusedZipError(SystemVmError):
    """It is a zip, but not one that this project takes an image from."""


@frozen
class Member:
    """What is in front of the member; sizes are None when they are behind it."""

    name: bytes
    method: int
    flags: int
    crc: int | None
    packed_bytes: int | None
    plain_bytes: int | None
    header_bytes: int


@frozen
class Contents:
    """The member as it was found in the stream."""

    crc: int
    packed_bytes: int
    plain_bytes: int


def local_header_bytes(head: bytes) -> int:
    """Return the length of a local header with its name and extra field; `head` has `LOCAL_BYTES`."""
    *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(head)
    return LOCAL_BYTES + int(name_bytes) + int(extra_bytes)


def read_local(header: bytes) -> Member:
    """Parse a whole local header.

    Raises: ValueError when it is damaged; RefusedZipError when its member is not taken.
    """
    _, _, flags, method, _, _, crc, packed, plain, name_bytes, _ = _LOCAL_HEADER.unpack_from(header)
    name = header[LOCAL_BYTES : LOCAL_BYTES + name_bytes]
    extra = _zip64_extra(header[LOCAL_BYTES + name_bytes :])
    if flags & (_ENCRYPTED | _STRONG | _MASKED):
        raise RefusedZipError("it is encrypted")
    if flags & _PATCHED:
        raise RefusedZipError("it is a patch of another file")
    if method not in (STORED, DEFLATED):
        raise RefusedZipError(f"its compression method {method} is neither stored nor deflate")
    _require_plain_name(name)
    if flags & _HAS_DESCRIPTOR:
        if method == STORED:
            raise RefusedZipError("the size of its stored file comes only behind the file")
        # what is in front is 0 or repeats what is behind, which counts
        return Member(name, method, flags, None, None, None, len(header))
    plain, extra = _wide(plain, extra)
    packed, extra = _wide(packed, extra)
    if method == STORED and plain != packed:
        raise ValueError("the sizes of its stored file differ")
    return Member(name, method, flags, crc, packed, plain, len(header))


def descriptor_bytes(tail: bytes, found: Contents) -> int | None:
    """Return the length of the data descriptor that `tail` begins with; None when it is too short.

    Nothing tells how long one is: it can begin with a signature, and its sizes can have 4 or 8 bytes.

    Raises: ValueError when `tail` begins with none for what was `found`.
    """
    is_too_short = False
    for signature in (DESCRIPTOR, b""):
        for layout in ("<III", "<IQQ"):
            if layout == "<III" and max(found.packed_bytes, found.plain_bytes) > _NONE32:
                continue
            sizes = struct.pack(layout, found.crc, found.packed_bytes, found.plain_bytes)
            for following in (CENTRAL, LOCAL):
                whole = signature + sizes + following
                if tail.startswith(whole):
                    return len(whole) - len(following)
                is_too_short = is_too_short or whole.startswith(tail)
    if is_too_short:
        return None
    raise ValueError("sizes and CRC behind the file are not those of the file")


def central_header_bytes(head: bytes) -> int:
    """Return the length of a central header with what follows it; `head` has `CENTRAL_BYTES`."""
    fields = _CENTRAL_HEADER.unpack_from(head)
    return CENTRAL_BYTES + int(fields[10]) + int(fields[11]) + int(fields[12])


def require_central(header: bytes, member: Member, found: Contents) -> None:
    """Check that a central header describes the member as it was found.

    Raises: ValueError when it describes another one; RefusedZipError for a link, a directory or a part.
    """
    fields = _CENTRAL_HEADER.unpack_from(header)
    _, made_by, _, flags, method, _, _, crc, packed, plain, name_bytes, extra_bytes, _ = fields[:13]
    disk, _, attributes, offset = fields[13:]
    extra = _zip64_extra(header[CENTRAL_BYTES + name_bytes : CENTRAL_BYTES + name_bytes + extra_bytes])
    plain, extra = _wide(plain, extra)
    packed, extra = _wide(packed, extra)
    offset, extra = _wide(offset, extra)
    if disk == _NONE16 and len(extra) >= 4:
        disk = int.from_bytes(extra[:4], "little")
    name = header[CENTRAL_BYTES : CENTRAL_BYTES + name_bytes]
    if (name, method, flags, offset) != (member.name, member.method, member.flags, 0):
        raise ValueError("its central directory describes another file than the one in front of it")
    if (crc, packed, plain) != (found.crc, found.packed_bytes, found.plain_bytes):
        raise ValueError("its central directory has another size or CRC than the file")
    if disk != 0:
        raise RefusedZipError("it is one of several parts")
    kind = (attributes >> 16) & _FILE_TYPE if made_by >> 8 == _UNIX else 0
    if kind not in _PLAIN_TYPES or attributes & _DOS_DIRECTORY:
        raise RefusedZipError("it contains something else than a regular file")


def require_end64(record: bytes, directory_at: int, directory_bytes: int) -> None:
    """Check the zip64 end of the central directory.

    Raises: ValueError when it describes another file; RefusedZipError for several members or parts.
    """
    _, rest_bytes, _, _, disk, directory_disk, here, total, size, at = _END64_RECORD.unpack(record)
    if rest_bytes != END64_BYTES - 12:
        raise RefusedZipError("its zip64 record has an extension")
    _require_one(disk, directory_disk, here, total)
    if (size, at) != (directory_bytes, directory_at):
        raise ValueError("its zip64 record does not point at its central directory")


def require_locator64(record: bytes, end64_at: int) -> None:
    """Check the record that points at the zip64 end.

    Raises: ValueError when it points elsewhere.
    """
    _, disk, at, disks = _LOCATOR64_RECORD.unpack(record)
    if (disk, at) != (0, end64_at) or disks > 1:
        raise ValueError("its zip64 locator does not point at its zip64 record")


def require_end(record: bytes, directory_at: int, directory_bytes: int, *, has_zip64: bool) -> int:
    """Check the end of the central directory; return the length of the comment behind it.

    Raises: ValueError when it describes another file; RefusedZipError for several members or parts.
    """
    _, disk, directory_disk, here, total, size, at, comment_bytes = _END_RECORD.unpack(record)
    if has_zip64:  # each value that does not fit is in the zip64 record
        disk, directory_disk = (0 if each == _NONE16 else each for each in (disk, directory_disk))
        here, total = (1 if each == _NONE16 else each for each in (here, total))
        size = directory_bytes if size == _NONE32 else size
        at = directory_at if at == _NONE32 else at
    _require_one(disk, directory_disk, here, total)
    if (size, at) != (directory_bytes, directory_at):
        raise ValueError("its end does not point at its central directory")
    return int(comment_bytes)


def _require_one(disk: int, directory_disk: int, here: int, total: int) -> None:
    if disk or directory_disk:
        raise RefusedZipError("it is one of several parts")
    if (here, total) != (1, 1):
        raise RefusedZipError(f"it contains {total} files")


def _require_plain_name(name: bytes) -> None:
    """Check a name that becomes no path here, but would do so where the same zip is unpacked by others."""
    parts = name.replace(b"\\", b"/").split(b"/")
    if not name or b"\0" in name:
        raise RefusedZipError("the name of its file is not a name")
    if name.endswith(b"/"):
        raise RefusedZipError("it contains a directory")
    if b"" in parts or b".." in parts or b"\\" in name or parts[0][1:2] == b":":
        raise RefusedZipError("the name of its file leads out of the directory where it is unpacked")


def _zip64_extra(extra: bytes) -> bytes:
    """Return the zip64 part of an extra field; empty when there is none.

    Raises: ValueError when the field is damaged.
    """
    found = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if len(extra) < 4 + length:
            raise ValueError("its extra field is truncated")
        if kind == _ZIP64_EXTRA:
            if found:
                raise ValueError("it has two zip64 fields")
            found = extra[4 : 4 + length]
        extra = extra[4 + length :]
    if extra.strip(b"\0"):  # some writers align the data by zeros
        raise ValueError("its extra field is truncated")
    return found


def _wide(value: int, extra: bytes) -> tuple[int, bytes]:
    """Return a 32-bit value, or its 64-bit one, and what follows that in the zip64 field."""
    if value != _NONE32:
        return value, extra
    if len(extra) < 8:
        raise ValueError("it lacks a zip64 size")
    return int.from_bytes(extra[:8], "little"), extra[8:]
