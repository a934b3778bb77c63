# SPDX-License-Identifier: Apache-2.0
"""The journal on the store, beside the part file: replaced as a whole, after the part file is durable."""

from __future__ import annotations

import os
from contextlib import suppress

from systemvm.ssvm.mover_messages import JOURNAL_NAME
from systemvm.ssvm.resumable import journal as codec
from systemvm.ssvm.resumable.journal import Journal

_NEW_NAME = f"{JOURNAL_NAME}.new"


class JournalFile:
    """The journal in a job's directory; methods raise the OSError of the store."""

    def __init__(self, directory: int) -> None:
        self._directory = directory

    def read(self) -> Journal | None:
        """Return the journal; None when there is none that can be used."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(JOURNAL_NAME, flags, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        try:
            content = b""
            while data := os.read(descriptor, codec.MAX_JOURNAL_BYTES):
                content += data
                if len(content) > codec.MAX_JOURNAL_BYTES:
                    return None
        finally:
            os.close(descriptor)
        return codec.decode(content)

    def write(self, journal: Journal) -> None:
        """Replace it durably; a crash leaves the old one or the new one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(_NEW_NAME, flags, 0o600, dir_fd=self._directory)
        try:
            view = memoryview(codec.encode(journal))
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(_NEW_NAME, JOURNAL_NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def remove(self) -> None:
        """Remove it durably: what it describes is about to change."""
        with suppress(FileNotFoundError):
            os.unlink(JOURNAL_NAME, dir_fd=self._directory)
            os.fsync(self._directory)
