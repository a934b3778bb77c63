# SPDX-License-Identifier: Apache-2.0
"""The part file of a job: a new one, or the one that its journal describes."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from systemvm.ssvm.failure import of_store
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover_messages import IMAGE_NAME
from systemvm.ssvm.resumable.checkpoints import Checkpoints
from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable.journal_file import JournalFile
from systemvm.ssvm.resumable.sparse import SparseWriter
from systemvm.ssvm.resumable.write_behind import WriteBehind
from systemvm.ssvm.resumable_hash import ResumableHash

_READ_BYTES = MIB


class PartFile:
    """The open file; `journal` says where it continues, None from its first byte."""

    def __init__(self, directory: int, source_id: str) -> None:
        """Open what an earlier mover left of this source.

        Raises: TransferError when the store fails.
        """
        self._directory = directory
        self.journal_file = JournalFile(directory)
        self.descriptor = -1
        self.journal: Journal | None = None
        try:
            found = self.journal_file.read() if source_id else None
        except OSError as error:
            raise of_store(error, "reading the journal of the transfer") from None
        if found is not None and found.source_id == source_id and self._open(found):
            self.journal = found

    def begin_anew(self) -> None:
        """Replace the file by an empty one; a process that still hangs in a write has the old one.

        Raises: TransferError when the store fails.
        """
        self.close()
        self.journal = None
        try:
            self.journal_file.remove()
            with suppress(FileNotFoundError):
                os.unlink(IMAGE_NAME, dir_fd=self._directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.descriptor = os.open(IMAGE_NAME, flags, 0o600, dir_fd=self._directory)
        except OSError as error:
            raise of_store(error, "creating the image file") from None

    def writer(self, size_bytes: int) -> WriteBehind:
        return WriteBehind(SparseWriter(self.descriptor, size_bytes))

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.descriptor, self.journal_file)

    def restore_hash(self, journal: Journal, name: str) -> ResumableHash:
        """Return the digest of the bytes before the journal; a file is read again if there is no state."""
        if journal.hash_state is not None:
            return ResumableHash(name, journal.hash_state)
        digest = ResumableHash(name)
        position = 0
        while position < journal.hashed_bytes:
            wanted = min(_READ_BYTES, journal.hashed_bytes - position)
            data = os.pread(self.descriptor, wanted, position)
            if not data:
                raise ValueError("the part file is shorter than its journal says")
            digest.update(data)
            position += len(data)
        return digest

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _open(self, journal: Journal) -> bool:
        """Open the file that `journal` describes, without what was written behind it."""
        if journal.hash_state is None and journal.stores_other_bytes:
            return False
        access = os.O_WRONLY if journal.hash_state is not None else os.O_RDWR
        try:
            flags = access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(IMAGE_NAME, flags, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise of_store(error, "opening the image file") from None
        try:
            state = os.fstat(descriptor)
            usable = stat.S_ISREG(state.st_mode) and state.st_nlink == 1
            if usable and state.st_size >= journal.file_bytes:
                os.ftruncate(descriptor, journal.file_bytes)
                self.descriptor, descriptor = descriptor, -1
        except OSError as error:
            raise of_store(error, "opening the image file") from None
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return self.descriptor >= 0
