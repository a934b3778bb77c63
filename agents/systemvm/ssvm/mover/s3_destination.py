# SPDX-License-Identifier: Apache-2.0
"""The object of a job with its journal, which is a small object of its own while the transfer lasts.

A journal names the stored parts by their entity tags: it continues these very parts, or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover.s3_object import S3Object
from systemvm.ssvm.mover_messages import MoverResult
from systemvm.ssvm.resumable import journal as codec
from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable_hash import ResumableHash
from systemvm.ssvm.s3 import answers, bounded_xml, listing, requests
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.s3.requests import MIN_PART_BYTES, UploadedPart

#: A part that is almost full is sent with a journal, where the body allows one.
SLACK_BYTES = MIB
#: A body that allows few of them has one earlier; after a crash at most twice this is fetched again.
RECEIVED_BYTES = 24 * MIB


@frozen
class _Finished:
    """What takes the place of a journal when the object is complete: a job that is repeated has it then."""

    source_id: str
    etag: str
    result: MoverResult


@frozen
class _JournalHead:
    """What is in front of a journal: which parts it continues."""

    upload_id: str
    parts: int
    tags_sha256: str


class S3Destination:
    """Where an image becomes an object; see Destination."""

    def __init__(self, server: Exchange, key: str, journal_key: str, source_id: str, part_bytes: int) -> None:
        self._server = server
        self._image = key
        self._key = journal_key
        self._source_id = source_id
        self._object = S3Object(server, key, part_bytes)
        self.finished: MoverResult | None = None  # by an earlier mover, whose object is whole
        self.journal: Journal | None = None
        found = self._read() if source_id else None
        if found is not None and found.source_id == source_id:
            self.journal = found

    def begin_anew(self) -> None:
        """Forget the journal; parts are still compared with those that are there."""
        self.journal = None
        self._object.restart()
        self._write(b"")  # the mark of the job stays

    def writer(self, size_bytes: int) -> S3Object:
        if self._object.size_bytes != size_bytes:
            raise ValueError(f"{self._object.size_bytes} bytes are stored instead of {size_bytes}")
        return self._object

    def checkpoints(self) -> S3Checkpoints:
        return S3Checkpoints(self, self._object)

    def restore_hash(self, journal: Journal, name: str) -> ResumableHash:
        if journal.hash_state is None:
            raise ValueError("the state of the digest is not in the journal")
        return ResumableHash(name, journal.hash_state)

    def write_journal(self, journal: Journal) -> None:
        """Replace the journal; one that is too large is left out, and the one before still holds."""
        upload_id, parts = self._object.stored
        head = msgspec.json.encode(_JournalHead(upload_id, len(parts), _digest(parts)))
        content = head + b"\n" + codec.encode(journal)
        if upload_id and len(content) <= bounded_xml.MAX_BYTES:
            self._write(content)

    def complete(self, result: MoverResult) -> None:
        """Note that the object is complete; publishing removes the note."""
        self._write(msgspec.json.encode(_Finished(self._source_id, self._object.etag, result)))

    def _write(self, content: bytes) -> None:
        self._server.exchange(
            requests.put_object(self._key, content),
            lambda answer: answers.require_success(answer, "the journal of a transfer"),
        )

    def discard(self) -> None:
        """Discard all parts; the mark of the job stays until fetch has discarded the job."""
        self._object.abort()
        with suppress(TransferError):  # a journal of parts that are gone continues nothing
            self._write(b"")

    def _read(self) -> Journal | None:
        """Return the journal, and continue the object that it describes; None when there is none."""

        def read(answer: S3Answer) -> bytes:
            answers.require_success(answer, "the journal of a transfer")
            return answer.body

        try:
            content = self._server.exchange(requests.get_object(self._key), read)
        except S3Error as error:
            if error.is_missing:
                return None
            raise
        line, _, encoded = content.partition(b"\n")
        if not encoded:
            self.finished = self._read_finished(line)
            return None
        try:
            head = msgspec.convert(msgspec.json.decode(line), type=_JournalHead)
        except ValueError:
            return None
        journal = codec.decode(encoded)
        if journal is None or journal.hash_state is None:
            return None
        parts = self._object.parts_of(head.upload_id)[: head.parts]
        sizes = sum(part.size_bytes for part in parts)
        if _digest(parts) != head.tags_sha256 or sizes != journal.file_bytes:
            return None
        self._object.resume(head.upload_id, parts)
        return journal

    def _read_finished(self, content: bytes) -> MoverResult | None:
        """Return the result of an earlier mover, if its object is still there, unchanged."""
        try:
            found = msgspec.convert(msgspec.json.decode(content), type=_Finished)
        except ValueError:
            return None
        image = listing.head(self._server, self._image)
        if image is None or found.source_id != self._source_id:
            return None
        is_same = (image.size_bytes, image.etag) == (found.result.size_bytes, found.etag)
        return found.result if is_same else None


class S3Checkpoints:
    """Takes them at once, as the connection is the writer's; see Checkpoints."""

    def __init__(self, destination: S3Destination, writer: S3Object) -> None:
        self._destination = destination
        self._object = writer
        self._received_bytes = 0

    def begin_at(self, received_bytes: int, written_bytes: int) -> None:
        self._received_bytes = received_bytes

    def is_due(self, received_bytes: int, written_bytes: int) -> bool:
        """Whether the part in memory can be sent here, and should be."""
        pending_bytes = self._object.pending_bytes
        if pending_bytes < MIN_PART_BYTES:
            return False
        is_full = pending_bytes >= self._object.part_bytes - SLACK_BYTES
        return is_full or received_bytes - self._received_bytes >= RECEIVED_BYTES

    def is_overdue(self, written_bytes: int) -> bool:
        return False  # parts are durable by themselves

    def take(self, received_bytes: int | None, written_bytes: int, journal: Journal | None) -> None:
        if received_bytes is not None:
            self._received_bytes = received_bytes
        if journal is not None:
            self._destination.write_journal(journal)

    def wait(self) -> None:
        """All is durable after `take`."""

    def close(self) -> None:
        """There is nothing to end."""


def _digest(parts: Sequence[UploadedPart]) -> str:
    return hashlib.sha256("\n".join(part.etag for part in parts).encode()).hexdigest()
