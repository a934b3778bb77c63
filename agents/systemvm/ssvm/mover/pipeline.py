# SPDX-License-Identifier: Apache-2.0
"""One pass over an image: receive | hash | decompress, inspect, write. Three threads share a pool of buffers.

Hashing, decoding and system calls release the interpreter lock, so the threads run in parallel.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue

from systemvm.ssvm import checksum
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.gate import Admission
from systemvm.ssvm.mover.bounded_decoder import BoundedDecoder
from systemvm.ssvm.mover.resuming_source import ResumingSource
from systemvm.ssvm.mover.sparse import SparseWriter
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult
from systemvm.wire.transfer_failure import TransferFailure

BUFFER_BYTES = 256 * 1024  # measured: larger ones cost page faults, smaller ones interpreter time
BUFFERS = 16


class Pipeline:
    """Moves one body into one file; `run` blocks, `progress` can be read from another thread."""

    def __init__(self, source: ResumingSource, descriptor: int, job: MoverJob) -> None:
        self._source = source
        self._job = job
        self._verification = checksum.parse(job.checksum)
        self._hash = self._verification.start()
        self._decoder = BoundedDecoder(job.max_size_bytes, job.limits)
        self._admission = Admission(job.format, job.limits.max_virtual_size_bytes)
        self._writer = SparseWriter(descriptor)
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
        self._to_hash: SimpleQueue[memoryview | None] = SimpleQueue()
        self._hashed: SimpleQueue[None] = SimpleQueue()  # one for each buffer, in order
        self._stop = threading.Event()  # set by either thread: the other must end
        self._writer_error: BaseException | None = None
        self._result: MoverResult | None = None
        for _ in range(BUFFERS):
            self._free.put(bytearray(BUFFER_BYTES))

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
        if self._writer_error is not None:
            raise self._writer_error
        if self._result is None:
            raise TransferError(TransferFailure.INTERNAL, "the writer ended without a result")
        return self._result

    def _receive(self) -> None:
        count = 1
        while count:
            buffer = self._free.get()
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
        while (data := self._to_hash.get()) is not None:
            self._hash.update(data)
            self._hashed.put(None)

    def _write(self) -> None:
        try:
            while (item := self._full.get()) is not None:
                buffer, filled = item
                for piece in self._decoder.decode(memoryview(buffer)[:filled]):
                    self._take(piece)
                self._hashed.get()
                self._free.put(buffer)
            if not self._stop.is_set():
                self._result = self._complete()
        except BaseException as error:
            self._writer_error = error
            self._stop.set()
            self._free.put(bytearray(BUFFER_BYTES))  # wakes a receiver that waits for a buffer

    def _take(self, piece: bytes | memoryview) -> None:
        self._admission.feed(piece)  # before writing: an unsafe image is not written
        self._writer.write(piece)

    def _complete(self) -> MoverResult:
        for piece in self._decoder.finish():
            self._take(piece)
        # first, because it is of the received bytes: "wrong file" helps more than "damaged image"
        computed = self._verification.verify(self._hash.hexdigest(), self._source.content_encoding)
        virtual_size_bytes = self._admission.verdict().virtual_size_bytes
        self._writer.finish()
        return MoverResult(computed, self._source.received_bytes, self._writer.size_bytes, virtual_size_bytes)
