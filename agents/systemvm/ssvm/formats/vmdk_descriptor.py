# SPDX-License-Identifier: Apache-2.0
"""The descriptor of a VMDK: a text that can name other files, of which one image may have none."""

from __future__ import annotations

import re

from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.ssvm.formats.vmdk_header import STANDALONE_HINT
from systemvm.wire.storage import ImageFormat

CREATE_TYPES = frozenset({"monolithicsparse", "streamoptimized"})
_NO_PARENT = 0xFFFFFFFF
#: Texts that make a reader open another file: QEMU looks for the first one anywhere in the descriptor.
_REFERENCES = (b"parentfilenamehint", b"changetrackpath", b"nativeparenthint")
_EXTENT = re.compile(r'(RW|RDONLY|NOACCESS)[ \t]+(\d{1,19})[ \t]+(\S+)(?:[ \t]+"([^"]*)")?(?:[ \t]+(.*))?')
_ACCESS = re.compile(r"(RW|RDONLY|NOACCESS)\b", re.IGNORECASE)
_PAIR = re.compile(r"([A-Za-z][\w.\-]*)\s*=\s*(.*)")
_ENCODING = "latin-1"  # every byte is a character: the encoding of names does not matter here


def check(text: bytes, capacity_sectors: int) -> None:
    """Check the descriptor of an image with one sparse extent, which is the image itself.

    Raises: TransferError when it describes anything else.
    """
    require_no_references(text)
    lines = text.partition(b"\0")[0].decode(_ENCODING).splitlines()
    if not lines or not lines[0].lstrip().lower().startswith("# disk descriptorfile"):
        damaged(ImageFormat.VMDK, "its descriptor does not begin as one")
    values: dict[str, str] = {}
    extents: list[tuple[int, str]] = []
    for line in (each.strip() for each in lines[1:]):
        if not line or line.startswith("#"):
            continue
        if _ACCESS.match(line):
            extents.append(_extent(line))
        elif pair := _PAIR.fullmatch(line):
            key = pair[1].lower()
            if key in values and not key.startswith("ddb."):
                unsafe(ImageFormat.VMDK, f"its descriptor has {key} twice", STANDALONE_HINT)
            values[key] = pair[2].strip().strip('"')
        else:
            unsafe(ImageFormat.VMDK, "its descriptor has a line that is no setting", STANDALONE_HINT)
    _check_values(values)
    _check_extents(extents, capacity_sectors)


def require_no_references(text: bytes) -> None:
    """Refuse the names of other files anywhere in a text, whatever follows a zero byte in it.

    Raises: TransferError when there is one.
    """
    lowered = text.lower()
    for word in _REFERENCES:
        if word in lowered:
            unsafe(ImageFormat.VMDK, f"its descriptor names another file by {word.decode()}", STANDALONE_HINT)


def _extent(line: str) -> tuple[int, str]:
    found = _EXTENT.fullmatch(line)
    if found is None:
        unsafe(ImageFormat.VMDK, "an extent in its descriptor cannot be parsed", STANDALONE_HINT)
    return int(found[2]), found[3].upper()


def _check_values(values: dict[str, str]) -> None:
    create_type = values.get("createtype", "")
    if create_type.lower() not in CREATE_TYPES:
        unsafe(
            ImageFormat.VMDK,
            f"its type {create_type[:40]!r} is not supported",
            f"use monolithicSparse or streamOptimized: {STANDALONE_HINT}",
        )
    try:
        parent = int(values.get("parentcid", ""), 16)
    except ValueError:
        parent = 0
    if parent != _NO_PARENT:
        unsafe(ImageFormat.VMDK, "it is a snapshot, which needs its parent", STANDALONE_HINT)
    if values.get("encoding", "").lower().startswith("encrypted") or "encryption.keysafe" in values:
        unsafe(ImageFormat.VMDK, "it is encrypted", "publish it without encryption")


def _check_extents(extents: list[tuple[int, str]], capacity_sectors: int) -> None:
    if len(extents) != 1:
        unsafe(ImageFormat.VMDK, f"it has {len(extents)} extents instead of one", STANDALONE_HINT)
    ((sectors, kind),) = extents
    if kind != "SPARSE":
        unsafe(ImageFormat.VMDK, f"its extent is {kind[:20]!r}, which is another file", STANDALONE_HINT)
    if sectors != capacity_sectors:
        damaged(
            ImageFormat.VMDK,
            f"its descriptor has {sectors} sectors, and its header {capacity_sectors}",
        )
