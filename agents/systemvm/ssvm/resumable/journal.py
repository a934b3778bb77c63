# SPDX-License-Identifier: Apache-2.0
"""The journal of a transfer: where it continues after its mover, fetch or the whole VM has died.

Sans-IO. A journal describes bytes that are durable in the part file, so nothing is read back: the digest
continues from its saved state, decompression from the end of a member, inspection from its saved state.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import msgspec
from attrs import frozen

from systemvm.ssvm.http_response import ResumePoint

_MAGIC = b"systemvm-journal 1\n"
_DIGEST_BYTES = 32
#: The state of an inspector is at most a header of 2 MiB and a table of 1 MiB, in base64.
MAX_JOURNAL_BYTES = 16 << 20


@frozen
class Journal:
    """A point of a transfer. Offsets count bytes of the body as the server sends it, except `file_bytes`."""

    source_id: str  # of the URL and of what is made of it: another one begins anew
    validator: str | None
    total_bytes: int | None
    encoding: str | None
    hashed_bytes: int
    hash_state: bytes | None  # None: the digest of this machine cannot be saved, so the file is read again
    decoder: str | None  # the compression; None for a file that is stored as it is sent
    decoded_bytes: int  # decoding continues here, at most at `hashed_bytes`
    file_bytes: int  # of the image, which come from what is before `decoded_bytes`
    inspector: Any  # as `object_state` saves it
    member: Any = None  # of a disk that is taken out of an archive: where it is there, saved likewise
    unpacked_bytes: int | None = None  # of the archive, whose other bytes are not in the file

    def resume_point(self) -> ResumePoint:
        """Return where the body is requested again."""
        return ResumePoint(self.decoded_bytes, self.validator, self.total_bytes, self.encoding)

    @property
    def stores_other_bytes(self) -> bool:
        """Whether the file has other bytes than the source sends."""
        return self.decoder is not None or self.member is not None

    @property
    def is_consistent(self) -> bool:
        """Whether its offsets can be those of one transfer."""
        total = self.hashed_bytes if self.total_bytes is None else self.total_bytes
        plain = self.stores_other_bytes or self.decoded_bytes == self.file_bytes
        return 0 < self.decoded_bytes <= self.hashed_bytes <= total and self.file_bytes >= 0 and plain


def encode(journal: Journal) -> bytes:
    packed = zlib.compress(msgspec.json.encode(journal), 1)
    return _MAGIC + hashlib.sha256(packed).digest() + packed


def decode(content: bytes) -> Journal | None:
    """Parse a journal; return None for anything else: the transfer then begins anew."""
    head = len(_MAGIC) + _DIGEST_BYTES
    digest, packed = content[len(_MAGIC) : head], content[head:]
    if not content.startswith(_MAGIC) or hashlib.sha256(packed).digest() != digest:
        return None
    try:
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(packed, MAX_JOURNAL_BYTES)
        if unpacking.unconsumed_tail:
            return None
        journal = msgspec.convert(msgspec.json.decode(plain), type=Journal)
    except (zlib.error, ValueError):
        return None
    return journal if journal.is_consistent else None
