# SPDX-License-Identifier: Apache-2.0
"""One pass over an image: receive | hash | decompress, inspect, write. Three threads share a pool of buffers.

Hashing, decoding and system calls release the interpreter lock, so the threads run in parallel. What is
decompressed is written by one more thread, of `write_behind`.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue

from systemvm.ssvm import checksum
from systemvm.ssvm.account_quota import quota_exceeded
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.gate import Admission
from systemvm.ssvm.formats.tar_member import TarMember
from systemvm.ssvm.mover import object_state
from systemvm.ssvm.mover.bounded_decoder import BoundedDecoder
from systemvm.ssvm.mover.buffer_pool import BufferPool
from systemvm.ssvm.mover.byte_source import ByteSource
from systemvm.ssvm.mover.destination import Destination
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult
from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable_hash import ResumableHash
from systemvm.wire.transfer_failure import TransferFailure

BUFFER_BYTES = 256 * 1024  # measured: larger ones cost page faults, smaller ones interpreter time
BUFFERS = 16
#: Decoders with a history of megabytes, which are slower than any source that fills more buffers than these.
LARGE_DECODERS, BUFFERS_BESIDE_A_LARGE_DECODER = ("xz", "zstd"), 6
#: Where the classes of inspectors are.
INSPECTORS = "systemvm.ssvm.formats."


class Pipeline:
    """Moves one body into one image; `run` blocks, `progress` can be read from another thread."""

    def __init__(self, source: ByteSource, part: Destination, job: MoverJob, buffers: int = BUFFERS) -> None:
        self._source = source
        self._job = job
        self._verification = checksum.parse(job.checksum)
        self._hash = ResumableHash(self._verification.algorithm.hashlib_name)
        self._hashed_bytes = 0
        self._hashing = threading.Lock()  # the digest belongs to exactly `_hashed_bytes`
        self._is_hashed = True  # the buffer that is decoded now
        self._decoder = BoundedDecoder(job.max_size_bytes, job.limits, self._restart_point)
        self._member = None if job.member_directory is None else TarMember(job.member_directory)
        self._admission = Admission(job.format, job.limits.max_virtual_size_bytes)
        self._checkpoints = part.checkpoints()
        self._is_resumed = part.journal is not None
        if part.journal is not None:
            self._resume(part.journal, part)
        self._first_byte = self._decoder.consumed_bytes
        self._writer = part.writer(0 if part.journal is None else part.journal.file_bytes)
        self._buffers = BufferPool(buffers, BUFFER_BYTES)
        self._full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
        self._to_hash: SimpleQueue[memoryview | None] = SimpleQueue()
        self._hashed: SimpleQueue[None] = SimpleQueue()  # one for each buffer, in order
        self._stop = threading.Event()  # set by either thread: the other must end
        self._writer_error: BaseException | None = None
        self._result: MoverResult | None = None

    def progress(self) -> MoverProgress:
        return MoverProgress(self._source.received_bytes, self._source.total_bytes, self._writer.size_bytes)

    @property
    def stopped(self) -> bool:
        """Whether either thread has failed."""
        return self._stop.is_set()

    def run(self) -> MoverResult:
        """Receive, check and write the whole image, and make it durable.

        Raises: TransferError when the source, the image or the store is at fault.
        """
        writing = threading.Thread(target=self._write, name="writer", daemon=True)
        hashing = threading.Thread(target=self._compute_hash, name="hash", daemon=True)
        writing.start()
        hashing.start()
        try:
            self._receive()
        except BaseException:
            if self._writer_error is None:  # otherwise it has ended the receiver, too
                self._stop.set()
                raise
        finally:
            self._to_hash.put(None)
            self._full.put(None)
            hashing.join()
            writing.join()
            self._writer.close()
            self._checkpoints.close()
        if self._writer_error is not None:
            raise self._writer_error
        if self._result is None:
            raise TransferError(TransferFailure.INTERNAL, "the writer ended without a result")
        return self._result

    def _receive(self) -> None:
        count = 1
        while count:
            buffer = self._buffers.take()
            view, filled = memoryview(buffer), 0
            while filled < BUFFER_BYTES:
                if self._stop.is_set():
                    return
                count = self._source.read_into(view[filled:])
                if count == 0:
                    break
                filled += count
                if self._source.received_bytes > self._job.max_size_bytes:
                    raise TransferError(
                        TransferFailure.TOO_LARGE,
                        f"Download file size is too large: more than {self._job.max_size_bytes} bytes",
                        "use a smaller image, or raise max_template_size_bytes of the zone",
                    )
            if filled:
                self._to_hash.put(view[:filled])
                self._full.put((buffer, filled))

    def _compute_hash(self) -> None:
        position = self._first_byte
        while (data := self._to_hash.get()) is not None:
            # decoding can begin in front of what was hashed before the transfer was resumed
            hashed = min(len(data), max(0, self._hashed_bytes - position))
            position += len(data)
            with self._hashing:
                self._hash.update(data[hashed:])
                self._hashed_bytes = max(self._hashed_bytes, position)
            self._hashed.put(None)

    def _write(self) -> None:
        try:
            while (item := self._full.get()) is not None:
                buffer, filled = item
                self._is_hashed = False
                for piece in self._decoder.decode(memoryview(buffer)[:filled]):
                    self._take(piece)
                if self._decoder.name in LARGE_DECODERS:
                    self._buffers.shrink(BUFFERS_BESIDE_A_LARGE_DECODER)
                self._wait_until_hashed()
                self._buffers.give_back(buffer)
            if not self._stop.is_set():
                self._result = self._complete()
        except BaseException as error:
            self._writer_error = error
            self._stop.set()
            self._buffers.wake()

    def _wait_until_hashed(self) -> None:
        if not self._is_hashed:
            self._hashed.get()
            self._is_hashed = True

    def _take(self, piece: bytes | memoryview) -> None:
        if self._member is None:
            self._take_image(piece)
            return
        for part in self._member.feed(piece):
            self._take_image(part)

    def _take_image(self, piece: bytes | memoryview) -> None:
        quota_bytes, size_bytes = self._job.quota_bytes, self._writer.size_bytes + len(piece)
        if quota_bytes is not None and size_bytes > quota_bytes:
            raise quota_exceeded(f"the image has at least {size_bytes} bytes", quota_bytes)
        self._admission.feed(piece)  # before writing: an unsafe image is not written
        self._writer.write(piece)
        if self._checkpoints.is_overdue(self._writer.size_bytes):
            self._checkpoints.take(None, self._writer.size_bytes, None)

    def _complete(self) -> MoverResult:
        for piece in self._decoder.finish():
            self._take(piece)
        # first, because it is of the received bytes: "wrong file" helps more than "damaged image"
        computed = self._verify()
        if self._member is not None:
            self._member.finish()
        virtual_size_bytes = self._admission.verdict().virtual_size_bytes
        self._checkpoints.wait()
        self._writer.finish()
        return MoverResult(computed, self._source.received_bytes, self._writer.size_bytes, virtual_size_bytes)

    def _verify(self) -> str:
        try:
            return self._verification.verify(self._hash.hexdigest(), self._source.content_encoding)
        except TransferError as error:
            if not self._is_resumed:
                raise
            raise TransferError(
                TransferFailure.SOURCE_CHANGED,
                f"what was resumed is not the file: {error.message}",
                "retry the template",
            ) from None

    # ---- the journal ---------------------------------------------------------------------------------------

    def _restart_point(self, unread_bytes: int) -> None:
        """Write a journal of this point, if enough was received since the last one."""
        decoded_bytes = self._decoder.consumed_bytes - unread_bytes
        if not self._checkpoints.is_due(decoded_bytes, self._writer.size_bytes):
            return
        self._writer.flush()
        journal = self._journal(decoded_bytes)
        self._checkpoints.take(decoded_bytes, self._writer.size_bytes, journal)

    def _journal(self, decoded_bytes: int) -> Journal | None:
        point = self._source.resume_point()
        if point is None or not self._job.source_id:
            return None
        member = None
        try:
            state = object_state.save(self._admission, INSPECTORS)
            if self._member is not None:
                member = object_state.save(self._member, INSPECTORS)
        except object_state.UnsavableError:
            return None
        self._wait_until_hashed()
        with self._hashing:
            hashed_bytes, hash_state = self._hashed_bytes, self._hash.save()
        return Journal(
            source_id=self._job.source_id,
            validator=point.validator,
            total_bytes=point.total_bytes,
            encoding=point.encoding,
            hashed_bytes=hashed_bytes,
            hash_state=hash_state,
            decoder=self._decoder.name,
            decoded_bytes=decoded_bytes,
            file_bytes=self._writer.size_bytes,
            inspector=state,
            member=member,
            unpacked_bytes=None if member is None else self._decoder.produced_bytes,
        )

    def _resume(self, journal: Journal, part: Destination) -> None:
        try:
            restored = object_state.load(journal.inspector, INSPECTORS)
            if not isinstance(restored, Admission) or restored.format is not self._job.format:
                raise ValueError("the journal is of another format")
            self._admission = restored
            self._resume_member(journal)
            self._hash = part.restore_hash(journal, self._verification.algorithm.hashlib_name)
        except ValueError as error:
            raise TransferError(
                TransferFailure.SOURCE_CHANGED, f"the transfer cannot continue: {error}", "retry the template"
            ) from None
        self._hashed_bytes = journal.hashed_bytes
        unpacked = journal.file_bytes if journal.unpacked_bytes is None else journal.unpacked_bytes
        self._decoder.resume(journal.decoder, journal.decoded_bytes, unpacked)
        self._checkpoints.begin_at(journal.decoded_bytes, journal.file_bytes)

    def _resume_member(self, journal: Journal) -> None:
        """Continue within the archive that a disk is taken out of.

        Raises: ValueError when the journal is of something else.
        """
        if (journal.member is None) != (self._member is None):
            raise ValueError("the journal is of another kind of file")
        if journal.member is not None:
            member = object_state.load(journal.member, INSPECTORS)
            if not isinstance(member, TarMember) or journal.unpacked_bytes is None:
                raise ValueError("the journal is of another kind of file")
            self._member = member
