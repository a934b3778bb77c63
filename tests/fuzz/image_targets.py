# SPDX-License-Identifier: Apache-2.0
"""Images, how they are compressed or packed, and what lies beside them on a store."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zipfile
import zlib

import msgspec
import zstandard

from fuzz.target import MIB, Target, declared, of_bytes
from image_corpus import archives, vhd, vhdx, vmdk
from integration.ssvm_lab import disk_images
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats import ovf, vmdk_descriptor
from systemvm.ssvm.formats.gate import Admission
from systemvm.ssvm.limits import TIB, TransferLimits
from systemvm.ssvm.mover import object_state
from systemvm.ssvm.mover.bounded_decoder import BoundedDecoder
from systemvm.ssvm.mover.pipeline import INSPECTORS
from systemvm.ssvm.properties import foreign
from systemvm.ssvm.properties.template import TemplateProperties, names_file
from systemvm.ssvm.resumable import journal as journal_codec
from systemvm.ssvm.resumable.journal import Journal
from systemvm.wire.storage import ImageFormat

FORMATS = list(ImageFormat)


def image(data: bytes) -> None:
    """Inspect an image; the first two bytes are its format and the size of the pieces."""
    if len(data) < 2:
        return
    image_format, piece_bytes, content = FORMATS[data[0] % len(FORMATS)], 1 + 31 * data[1], data[2:]
    outcomes = {_inspected(image_format, content, size) for size in (piece_bytes, max(1, len(content)))}
    assert len(outcomes) == 1, f"{image_format} depends on the pieces: {outcomes}"


def _inspected(image_format: ImageFormat, content: bytes, piece_bytes: int) -> str:
    admission = Admission(image_format, 16 * TIB)
    try:
        for start in range(0, len(content), piece_bytes):
            admission.feed(memoryview(content)[start : start + piece_bytes])
        return str(admission.verdict())
    except TransferError as error:
        return error.code.value


def compressed(data: bytes) -> None:
    """Decompress a file of any kind, at most to 4 MiB; the pieces in which it comes change nothing."""
    outcomes = {_decompressed(data, piece_bytes) for piece_bytes in (1000, MIB)}
    assert len(outcomes) == 1, f"what is decompressed depends on the pieces: {outcomes}"


def zip_file(data: bytes) -> None:
    compressed(b"PK\3\4" + data[4:])


def _decompressed(data: bytes, piece_bytes: int) -> bytes | None:
    """Return the digest of the content; None for a file that is refused."""
    decoder = BoundedDecoder(4 * MIB, TransferLimits())
    digest, produced = hashlib.sha256(), 0
    try:
        for start in range(0, len(data), piece_bytes):
            for piece in decoder.decode(data[start : start + piece_bytes]):
                produced += len(piece)
                digest.update(piece)
        for piece in decoder.finish():
            produced += len(piece)
            digest.update(piece)
    except TransferError:
        return None
    assert produced <= 4 * MIB
    return digest.digest()


def journal(data: bytes) -> None:
    """Read a journal whose digest is right, and the saved inspector in it."""
    packed = zlib.compress(data)
    found = journal_codec.decode(b"systemvm-journal 1\n" + hashlib.sha256(packed).digest() + packed)
    if found is not None:
        found.resume_point()
        declared(lambda: object_state.load(found.inspector, INSPECTORS), ValueError)


def properties(data: bytes) -> None:
    """Read template.properties as adoption, publishing and deleting do, whoever has written it."""
    declared(lambda: foreign.parse(data), TransferError)
    declared(lambda: TemplateProperties.from_text(data.decode("latin-1")), TransferError)
    names_file(data, "a.qcow2")


def _image_seeds() -> list[bytes]:
    files = {
        ImageFormat.QCOW2: [disk_images.qcow2(), disk_images.qcow2(version=2)],
        ImageFormat.ISO: [disk_images.iso()],
        ImageFormat.VHD: [vhd.dynamic(4 * MIB, 512 * 1024)],
        ImageFormat.VHDX: [vhdx.image(used=(0,))],
        ImageFormat.VMDK: [vmdk.sparse(), vmdk.stream()],
        ImageFormat.OVA: [archives.archive([("a.ovf", archives.descriptor()), ("disk.vmdk", vmdk.stream())])],
        ImageFormat.TAR: [archives.archive([("a", b"x" * 1000)])],
    }
    return [
        bytes([FORMATS.index(image_format), 255]) + file
        for image_format, seeds in files.items()
        for file in seeds
    ]


class _OneWay(io.RawIOBase):
    """A stream that cannot seek, so that the sizes come behind the file."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.data += piece
        return len(piece)


def _zip_seeds() -> list[bytes]:
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for force_zip64 in (False, True):
            for out in (io.BytesIO(), _OneWay()):
                with zipfile.ZipFile(out, "w", method) as archive:
                    archive.comment = b"a comment"
                    with archive.open("disk.img", "w", force_zip64=force_zip64) as member:
                        member.write(b"content of the disk")
                seeds.append(out.getvalue() if isinstance(out, io.BytesIO) else out.data)
    return seeds


def _journal_seed(image_format: ImageFormat, content: bytes) -> bytes:
    admission = Admission(image_format, 16 * TIB)
    admission.feed(content[:2000])
    state = object_state.save(admission, INSPECTORS)
    return msgspec.json.encode(
        Journal("source", '"tag"', 9000, None, 2000, b"sha256 state", None, 2000, 2000, state)
    )


_BY_JAVA = (
    b"#Tue Nov 17 10:11:12 UTC 2026\nid=204\npublic=true\nuniquename=204-2-x\n"
    b"description=\\u00FCber \\\n  all\n"
    b"hvm=true\nsize=7\nvirtualsize=9\nqcow2=true\nqcow2.filename=a.qcow2\nqcow2.size=7\nqcow2.virtualsize=9\n"
    b"filename=a.qcow2\nchecksum={SHA-256}ab\njobid=j-1\n"
)

TARGETS = {
    "image": Target(image, _image_seeds()),
    "compressed": Target(
        compressed,
        [gzip.compress(b"x" * 999), lzma.compress(b"x" * 999), zstandard.compress(b"x" * 999), b"BZh9"],
    ),
    "zip": Target(zip_file, _zip_seeds()),
    "properties": Target(
        properties,
        [
            _BY_JAVA,
            b"#Mon\nid=202\nuniquename=202-2-x\nqcow2=true\nqcow2.filename=a.qcow2\nqcow2.size=1\nfilename=a\n",
        ],
    ),
    "journal": Target(
        journal,
        [
            _journal_seed(ImageFormat.QCOW2, disk_images.qcow2()),
            _journal_seed(ImageFormat.VHDX, vhdx.image(used=(0,))),
        ],
    ),
    "ovf": Target(of_bytes(ovf.read_descriptor, TransferError), [archives.descriptor()]),
    "manifest": Target(of_bytes(ovf.read_manifest, TransferError), [b"SHA256(a.vmdk)= " + b"0" * 64]),
    "vmdk": Target(
        of_bytes(lambda data: vmdk_descriptor.check(data, vmdk.CAPACITY), TransferError), [vmdk.descriptor()]
    ),
}
