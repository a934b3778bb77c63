# SPDX-License-Identifier: Apache-2.0
"""OVA: a tar with an OVF first and exactly one disk, which is inspected as if it had come by itself.

The archive is never unpacked here. CloudStack unpacks it beside its template.properties: names are checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import define, evolve, field

from systemvm.service.tar_header import REGULAR, TarHeader
from systemvm.ssvm.formats import ovf
from systemvm.ssvm.formats.inspector import Inspector
from systemvm.ssvm.formats.member_digest import MemberDigest
from systemvm.ssvm.formats.ovf import Digest, OvfDisk
from systemvm.ssvm.formats.refusal import damaged, require_virtual_size, unsafe
from systemvm.ssvm.formats.stream import Data
from systemvm.ssvm.formats.tar_members import TarMembers
from systemvm.wire.storage import ImageFormat

MAX_DESCRIPTOR_BYTES, MAX_MANIFEST_BYTES = 1 << 20, 1 << 16
MAX_MEMBERS = 64
#: The formats of disks by their extension; the daemon finds the disk by it (management/primary/archive.py).
DISK_FORMATS = {
    ".vmdk": ImageFormat.VMDK,
    ".vhd": ImageFormat.VHD,
    ".vhdx": ImageFormat.VHDX,
    ".qcow2": ImageFormat.QCOW2,
    ".raw": ImageFormat.RAW,
    ".img": ImageFormat.RAW,
}
#: Letters of any language; nothing that a shell interprets, because CloudStack passes names to one.
_NAME = re.compile(r"[\w(][\w.()+@#%~, \[\]\-]{0,199}")
#: Extended headers that change nothing but the name, which is checked, and the size of a large member.
_HARMLESS_EXTENSIONS = frozenset(
    [
        "path",
        "size",
        "mtime",
        "atime",
        "ctime",
        "uid",
        "gid",
        "uname",
        "gname",
        "comment",
        "SCHILY.dev",
        "SCHILY.ino",
        "SCHILY.nlink",
        "SCHILY.fflags",
        "LIBARCHIVE.creationtime",
    ]
)
_ALGORITHMS = ("sha1", "sha256", "sha512")


@define
class _Member:
    name: str
    extension: str
    size_bytes: int
    kept: bytearray | None = None  # the content of a small text
    hashes: dict[str, MemberDigest] = field(factory=dict)
    digests: dict[str, str] = field(factory=dict)


class OvaInspector:
    """Takes the members in their order: descriptor, then disk, and the manifest wherever it is."""

    def __init__(
        self, max_virtual_size_bytes: int, inspector_for: Callable[[ImageFormat, int], Inspector]
    ) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self._inspector_for = inspector_for  # makes the one of the disk
        self._archive = TarMembers(ImageFormat.OVA)
        self._members: dict[str, _Member] = {}
        self._current: _Member | None = None
        self._disk: OvfDisk | None = None
        self._manifest: dict[str, Digest] | None = None
        self._inspector: Inspector | None = None
        self._virtual_size_bytes = 0

    def feed(self, data: Data) -> None:
        for event in self._archive.feed(data):
            if isinstance(event, TarHeader):
                self._end_member()
                self._begin_member(event)
            else:
                self._take(event)
            if not self._archive.data_left_bytes:
                self._end_member()

    def finish(self) -> int:
        if self._archive.in_member:
            damaged(ImageFormat.OVA, "it is truncated")
        self._end_member()
        self._archive.require_begun()
        if self._disk is None:
            damaged(ImageFormat.OVA, "it has no OVF")
        if not self._virtual_size_bytes:
            damaged(ImageFormat.OVA, f"the file of its disk is missing: {self._disk.file_name[:80]!r}")
        if self._manifest is not None:
            self._check_manifest(self._manifest, self._disk)
        return self._virtual_size_bytes

    def _begin_member(self, header: TarHeader) -> None:
        name = header.name.removeprefix("./")
        if header.kind != REGULAR:
            unsafe(ImageFormat.OVA, f"a member is no regular file: {name[:80]!r}", "export it anew")
        if self._archive.extensions - _HARMLESS_EXTENSIONS:
            unsafe(ImageFormat.OVA, f"a member has extended headers: {name[:80]!r}", "pack it as ustar")
        if not _NAME.fullmatch(name) or name.lower().endswith(".properties"):
            unsafe(ImageFormat.OVA, f"a member has a forbidden name: {name[:80]!r}", "rename it")
        if name.lower() in (each.lower() for each in self._members):
            unsafe(ImageFormat.OVA, f"it has a member twice: {name[:80]!r}", "pack it anew")
        if len(self._members) >= MAX_MEMBERS:
            unsafe(ImageFormat.OVA, f"it has more than {MAX_MEMBERS} members", "export it anew")
        member = _Member(name, name[name.rfind(".") :].lower() if "." in name else "", header.size_bytes)
        if not self._members and member.extension != ".ovf":
            damaged(ImageFormat.OVA, f"it does not begin with an OVF, but with {name[:80]!r}")
        self._members[name] = self._current = member
        self._prepare(member)

    def _prepare(self, member: _Member) -> None:
        limits = {".ovf": MAX_DESCRIPTOR_BYTES, ".mf": MAX_MANIFEST_BYTES}
        if member.extension in limits:
            if member.size_bytes > limits[member.extension]:
                damaged(ImageFormat.OVA, f"{member.name!r} has {member.size_bytes} bytes")
            member.kept = bytearray()
        algorithms: tuple[str, ...] = _ALGORITHMS
        if self._manifest is not None:  # it came first, so only what it names is computed
            listed = self._manifest.get(member.name)
            algorithms = (listed.algorithm,) if listed else ()
        member.hashes = {name: MemberDigest(name) for name in algorithms}
        if member.extension in DISK_FORMATS:
            if self._disk is None or not self._disk.is_named(member.name):
                unsafe(
                    ImageFormat.OVA,
                    f"it has a disk that its OVF does not name: {member.name[:80]!r}",
                    ovf.ONE_DISK_HINT,
                )
            self._disk = evolve(self._disk, file_name=member.name)
            self._inspector = self._inspector_for(
                DISK_FORMATS[member.extension], self._max_virtual_size_bytes
            )

    def _take(self, piece: memoryview) -> None:
        member = self._current
        if member is None:
            return
        for each in member.hashes.values():
            each.update(piece)
        if member.kept is not None:
            member.kept += piece
        if self._inspector is not None:
            self._inspector.feed(piece)

    def _end_member(self) -> None:
        member, self._current = self._current, None
        if member is None:
            return
        member.digests = {name: each.hexdigest() for name, each in member.hashes.items()}
        member.hashes = {}
        if self._inspector is not None:
            inspector, self._inspector = self._inspector, None
            self._virtual_size_bytes = inspector.finish()
        if member.kept is not None:
            content, member.kept = bytes(member.kept), None
            self._read_text(member, content)

    def _read_text(self, member: _Member, content: bytes) -> None:
        if member.extension == ".ovf":
            if self._disk is not None:
                unsafe(ImageFormat.OVA, "it has two descriptors", "export it anew")
            self._disk = ovf.read_descriptor(content)
            extension = self._disk.file_name[self._disk.file_name.rfind(".") :].lower()
            if extension not in DISK_FORMATS:
                unsafe(
                    ImageFormat.OVA,
                    f"its disk {self._disk.file_name[:80]!r} has a format that is not supported",
                    f"use one of {', '.join(sorted(each[1:] for each in DISK_FORMATS))}",
                )
            if self._disk.capacity_bytes is not None:  # often rounded: the disk itself decides
                sectors = -(-self._disk.capacity_bytes // 512)
                require_virtual_size(ImageFormat.OVA, sectors * 512, self._max_virtual_size_bytes)
        elif self._manifest is not None:
            unsafe(ImageFormat.OVA, "it has two manifests", "export it anew")
        else:
            self._manifest = ovf.read_manifest(content)

    def _check_manifest(self, manifest: dict[str, Digest], disk: OvfDisk) -> None:
        descriptor = next(iter(self._members))
        for name in (descriptor, disk.file_name):
            if name not in manifest:
                damaged(ImageFormat.OVA, f"its manifest has no digest of {name[:80]!r}")
        for name, digest in manifest.items():
            member = self._members.get(name)
            if member is None:
                damaged(ImageFormat.OVA, f"{name[:80]!r} of its manifest is missing")
            if member.digests.get(digest.algorithm) != digest.hex_digits:
                damaged(ImageFormat.OVA, f"the digest of {name[:80]!r} differs from its manifest")
