# SPDX-License-Identifier: Apache-2.0
"""How many transactions were committed to an SQLite database in WAL mode, by any process.

`PRAGMA data_version` tells the same, but each of its calls gives up Python's interpreter, for which the
reactor then waits while threads run. The counter is in the memory that all connections share: `iChange` of
https://www.sqlite.org/walformat.html, section 2.1.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import struct
from pathlib import Path

_CHANGES = struct.Struct("=I")
_OFFSET = 8
_HEADER_BYTES = 48
#: The counter starts again from 0 after this many.
WRAP = 1 << 32


class WalCommits:
    """Reads the counter. A connection of its own keeps the file with that memory in its place."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens the file
        self._descriptor = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
        self._memory = mmap.mmap(self._descriptor, _HEADER_BYTES, prot=mmap.PROT_READ)
        self._last = 0

    def count(self) -> int:
        """Return the counter; when it is closed, the last one."""
        if not self._memory.closed:
            [self._last] = _CHANGES.unpack_from(self._memory, _OFFSET)
        return self._last

    def close(self) -> None:
        """Close the file. Close all other connections before.

        POSIX releases a process's locks of a file with the first descriptor that is closed, and SQLite's
        connections need theirs until they are closed.
        """
        if self._memory.closed:
            return
        self._connection.close()
        self._memory.close()
        os.close(self._descriptor)
