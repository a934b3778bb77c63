# SPDX-License-Identifier: Apache-2.0
"""The OVF descriptor and the manifest of an OVA (DSP0243): which disk there is, and the digests of the files.

The XML is hostile: no DTD is accepted, so there are no entities of its own, and none that are fetched.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import unquote
from xml.parsers import expat

from attrs import define, field, frozen

from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.wire.storage import ImageFormat

MAX_DEPTH = 64
MAX_FILES = 256
ONE_DISK_HINT = 'extract its disks with "tar -xf", and register each as a template of its format'
_UNITS = re.compile(r"byte(?:s)?(?:\s*\*\s*(2|10)\s*\^\s*(\d{1,2}))?", re.IGNORECASE)
_NAMED_UNITS = {"kilobytes": 10, "megabytes": 20, "gigabytes": 30, "terabytes": 40}
_MANIFEST_LINE = re.compile(r"(SHA1|SHA256|SHA512)\s*\(([^()]{1,255})\)\s*=\s*([0-9A-Fa-f]{40,128})")
_ALGORITHMS = {"SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}


@frozen
class OvfDisk:
    """The one disk: the name of its file, and its size if the descriptor has it as a number."""

    file_name: str
    capacity_bytes: int | None

    def is_named(self, name: str) -> bool:
        """Whether a member is its file: the descriptor has a URI, and some programs write a name instead."""
        return name in (self.file_name, unquote(self.file_name))


@frozen
class Digest:
    algorithm: str
    hex_digits: str


@define
class _Envelope:
    depth: int = 0
    is_envelope: bool = False
    files: dict[str, dict[str, str]] = field(factory=dict)
    disks: list[dict[str, str]] = field(factory=list)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            damaged(ImageFormat.OVA, f"its OVF is nested deeper than {MAX_DEPTH} elements")
        local = _local(name)
        plain = {_local(key): value for key, value in attributes.items()}
        if self.depth == 1:
            self.is_envelope = local == "Envelope"
        elif local == "File":
            if plain.get("id", "") in self.files or len(self.files) >= MAX_FILES:
                damaged(ImageFormat.OVA, "its OVF has a file twice, or too many")
            self.files[plain.get("id", "")] = plain
        elif local == "Disk":
            self.disks.append(plain)

    def end(self, name: str) -> None:
        self.depth -= 1


def read_descriptor(data: bytes) -> OvfDisk:
    """Return the disk that an OVF describes.

    Raises: TransferError when it is no OVF, or does not describe exactly one disk in one plain file.
    """
    envelope = _Envelope()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartElementHandler = envelope.start
    parser.EndElementHandler = envelope.end
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.EntityDeclHandler = _refuse_dtd
    parser.ExternalEntityRefHandler = _refuse_dtd
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        damaged(ImageFormat.OVA, f"its OVF is not valid XML: {expat.ErrorString(error.code)}")
    except (ValueError, LookupError):  # an encoding that is unknown, or is no encoding of text
        damaged(ImageFormat.OVA, "its OVF is not valid XML")
    if not envelope.is_envelope:
        damaged(ImageFormat.OVA, "its OVF has no envelope")
    if len(envelope.disks) != 1:
        unsafe(ImageFormat.OVA, f"it has {len(envelope.disks)} disks instead of one", ONE_DISK_HINT)
    (disk,) = envelope.disks
    if "parentRef" in disk:
        unsafe(ImageFormat.OVA, "its disk is a snapshot, which needs its parent", ONE_DISK_HINT)
    file = envelope.files.get(disk.get("fileRef", ""))
    if file is None:
        damaged(ImageFormat.OVA, "its OVF names no file of its disk")
    if file.get("compression", "identity") not in ("", "identity") or "chunkSize" in file:
        unsafe(ImageFormat.OVA, "its disk is compressed or divided", "export it without compression")
    return OvfDisk(file.get("href", ""), _capacity(disk))


def read_manifest(data: bytes) -> dict[str, Digest]:
    """Return the digest of each file that a manifest names.

    Raises: TransferError when a line of it cannot be parsed.
    """
    digests: dict[str, Digest] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        found = _MANIFEST_LINE.fullmatch(line.strip())
        if found is None or found[2] in digests:
            damaged(
                ImageFormat.OVA, f"its manifest has a line that is no digest, or one twice: {line[:80]!r}"
            )
        digests[found[2]] = Digest(_ALGORITHMS[found[1]], found[3].lower())
    return digests


def _capacity(disk: dict[str, str]) -> int | None:
    """Return the size in bytes; None when it is a property that is chosen at deployment."""
    digits, units = disk.get("capacity", "").strip(), disk.get("capacityAllocationUnits", "byte").strip()
    if not digits.isdecimal() or len(digits) > 19:
        return None
    if units.lower() in _NAMED_UNITS:
        return int(digits) << _NAMED_UNITS[units.lower()]
    found = _UNITS.fullmatch(units)
    if found is None:
        return None
    return int(digits) * (int(found[1]) ** int(found[2]) if found[1] else 1)


def _local(name: str) -> str:
    return name.rpartition(" ")[2].rpartition(":")[2]


def _refuse_dtd(*_: object) -> NoReturn:
    unsafe(ImageFormat.OVA, "its OVF has a DTD or an entity", "export it anew: an OVF has neither")
