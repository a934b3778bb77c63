# SPDX-License-Identifier: Apache-2.0
"""One header of a tar archive (POSIX ustar and pax, GNU's long names and sizes), without extracting anything.

The SSVM inspects archives with it, and the daemon finds a disk in one: two parsers could disagree.
"""

from __future__ import annotations

from attrs import frozen

BLOCK_BYTES = 512
#: The longest extended header that is read: names and numbers, and no content.
MAX_EXTENSION_BYTES = 64 * 1024
REGULAR, HARD_LINK, SYMBOLIC_LINK, DIRECTORY = "0", "1", "2", "5"
PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK, GNU_SPARSE = "x", "g", "L", "K", "S"
EXTENSIONS = frozenset({PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK})
_MAX_SIZE_BYTES = 1 << 62
_CHECKSUM = slice(148, 156)
_CHECKSUM_BLANK = 8 * 0x20
_WITHOUT_DATA = frozenset({HARD_LINK, SYMBOLIC_LINK, "3", "4", DIRECTORY, "6"})


@frozen
class TarHeader:
    """A member, or an extension of the next one; `size_bytes` of its data follow, padded to blocks."""

    name: str
    kind: str
    size_bytes: int

    @property
    def padded_bytes(self) -> int:
        return -(-self.size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def parse(block: bytes, extension: dict[str, str]) -> TarHeader | None:
    """Parse a block of `BLOCK_BYTES`; return None for zeros, which end an archive.

    `extension` has what extended headers in front say: `path` and `size`.

    Raises: ValueError when it is no header.
    """
    if block.count(0) == len(block):
        return None
    if sum(block) - sum(block[_CHECKSUM]) + _CHECKSUM_BLANK != _octal(block[_CHECKSUM]):
        raise ValueError("a header of its archive has a wrong checksum")
    kind = chr(block[156]) if block[156] else REGULAR
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    size = int(extension["size"]) if "size" in extension else _number(block[124:136])
    if kind in _WITHOUT_DATA:
        size = 0
    if not 0 <= size <= _MAX_SIZE_BYTES:
        raise ValueError(f"a member of its archive claims {size} bytes")
    return TarHeader(extension.get("path", name), kind, size)


def extend(extension: dict[str, str], kind: str, data: bytes) -> None:
    """Add what an extended header says about the next member.

    Raises: ValueError when it cannot be parsed.
    """
    if kind == GNU_NAME:
        extension["path"] = _text(data)
    elif kind == PAX:
        extension.update(_pax_records(data))
        if not extension.get("size", "0").isdecimal() or len(extension.get("size", "0")) > 19:
            raise ValueError("the size in an extended header is not a number")


def _pax_records(data: bytes) -> dict[str, str]:
    """Parse `LENGTH KEY=VALUE` lines."""
    records = {}
    position = 0
    while position < len(data):
        digits, blank, _ = data[position : position + 8].partition(b" ")
        length = int(digits) if digits.isdigit() and blank else 0
        record = data[position + len(digits) + 1 : position + length]
        if length <= len(digits) + 1 or position + length > len(data) or not record.endswith(b"\n"):
            raise ValueError("an extended header of its archive cannot be parsed")
        key, equals, value = record[:-1].decode("utf-8", "replace").partition("=")
        if not equals:
            raise ValueError("an extended header of its archive cannot be parsed")
        records[key] = value
        position += length
    return records


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ValueError("a header of its archive has no octal number")
    return int(digits, 8)


def _number(field: bytes) -> int:
    """Parse octal digits, or GNU's number of 95 bits for what is larger."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] & 0x80:
        raise ValueError("a member of its archive claims a negative size")
    return _octal(field)
