# SPDX-License-Identifier: Apache-2.0
"""Makes a transfer durable while it goes on: sync the part file, then replace the journal, in a thread.

A writer that waited for the disk every few MiB would lose the time in which the source could send.
"""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue

from systemvm.ssvm.failure import of_store
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable.journal_file import JournalFile

#: After a crash at most two of these are fetched again, besides what buffers and sockets hold: one that was
#: being made durable, and one that had begun behind it.
RECEIVED_BYTES = 12 * MIB
#: Of the image, whose dirty pages must not fill the memory when a small body becomes a large image.
WRITTEN_BYTES = 64 * MIB


class Checkpoints:
    """One at a time; `take` waits for the one before."""

    def __init__(self, descriptor: int, journal: JournalFile) -> None:
        self._descriptor = descriptor
        self._journal = journal
        self._requests: SimpleQueue[tuple[int, Journal | None] | None] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._received_bytes = 0
        self._written_bytes = 0

    def begin_at(self, received_bytes: int, written_bytes: int) -> None:
        """Count from here: this much is durable already."""
        self._received_bytes, self._written_bytes = received_bytes, written_bytes

    def is_due(self, received_bytes: int, written_bytes: int) -> bool:
        """Whether a checkpoint with a journal should be taken at the next point that allows one."""
        return (
            received_bytes - self._received_bytes >= RECEIVED_BYTES
            or written_bytes - self._written_bytes >= WRITTEN_BYTES
        )

    def is_overdue(self, written_bytes: int) -> bool:
        """Whether the file must be synced although no journal can be written here."""
        return written_bytes - self._written_bytes >= WRITTEN_BYTES

    def take(self, received_bytes: int | None, written_bytes: int, journal: Journal | None) -> None:
        """Begin a checkpoint of what is written so far; None where no journal is possible at all.

        Raises: TransferError when the one before has failed.
        """
        self.wait()
        self._written_bytes = written_bytes
        if received_bytes is not None:
            self._received_bytes = received_bytes
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()
        self._idle.clear()
        self._requests.put((written_bytes, journal))

    def wait(self) -> None:
        """Wait for the running one.

        Raises: TransferError when the store has failed.
        """
        self._idle.wait()
        if isinstance(self._error, OSError):
            raise of_store(self._error, f"making the image durable at byte {self._written_bytes}")
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread, when it has completed what it does; its failure is not raised."""
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            written_bytes, journal = request
            try:
                os.fdatasync(self._descriptor)
                # the pages are not needed any more, and would push out others
                os.posix_fadvise(self._descriptor, 0, written_bytes, os.POSIX_FADV_DONTNEED)
                if journal is not None:
                    self._journal.write(journal)
            except BaseException as error:
                self._error = error
            finally:
                self._idle.set()
