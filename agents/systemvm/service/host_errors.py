# SPDX-License-Identifier: Apache-2.0
"""Errors that the machine causes: a full disk is reported as one, and not as an "internal error".

They are recognized by error numbers anywhere in a chain of exceptions: errno(3), and the result codes of
SQLite (sqlite.org/rescode.html), which Python has carried since 3.11.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

#: A file system with less free space than this has no room for a disk image or a transaction.
FULL_BYTES = 1 << 20
_MAX_CHAIN = 16


class HostFault(enum.Enum):
    """What is wrong with the machine; the values are stable codes."""

    DISK_FULL = "disk_full"
    QUOTA_EXCEEDED = "quota_exceeded"
    READ_ONLY = "read_only"
    IO_ERROR = "io_error"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_MANY_FILES = "too_many_files"

    def describe(self, place: str) -> FaultDescription:
        """Return message and hint; `place` is a directory, or what is stored there."""
        message, hint = _TEXTS[self]
        return FaultDescription(self, message.format(place=place), hint)


class FaultDescription(NamedTuple):
    """A fault with its message and hint."""

    fault: HostFault
    message: str
    hint: str


_TEXTS = {
    HostFault.DISK_FULL: (
        "the disk of {place} is full",
        "free space there; df -h and df -i show what is left",
    ),
    HostFault.QUOTA_EXCEEDED: (
        "the disk quota of {place} is used up",
        "free space there, or raise the quota",
    ),
    HostFault.READ_ONLY: (
        "the file system of {place} is read-only",
        "mount it writable; dmesg shows whether errors have made it read-only",
    ),
    HostFault.IO_ERROR: (
        "the disk of {place} fails: input/output error",
        "read dmesg; the disk can be broken",
    ),
    HostFault.OUT_OF_MEMORY: (
        "this machine is out of memory",
        "stop programs that are not needed; free -h shows what is left",
    ),
    HostFault.TOO_MANY_FILES: (
        "this machine has too many files open",
        "raise LimitNOFILE of the unit, or fs.file-max of the machine",
    ),
}
_BY_ERRNO = {
    errno.ENOSPC: HostFault.DISK_FULL,
    errno.EDQUOT: HostFault.QUOTA_EXCEEDED,
    errno.EROFS: HostFault.READ_ONLY,
    errno.EIO: HostFault.IO_ERROR,
    errno.ENOMEM: HostFault.OUT_OF_MEMORY,
    errno.EMFILE: HostFault.TOO_MANY_FILES,
    errno.ENFILE: HostFault.TOO_MANY_FILES,
}
#: SQLITE_FULL, _READONLY, _IOERR and _NOMEM; by number, because guests have no sqlite3 to import.
_BY_SQLITE_CODE = {
    13: HostFault.DISK_FULL,
    8: HostFault.READ_ONLY,
    10: HostFault.IO_ERROR,
    7: HostFault.OUT_OF_MEMORY,
}


def explain(error: BaseException | None, place: str = "") -> FaultDescription | None:
    """Return the fault of the machine that caused `error`; None when none did.

    `place` is used where the error itself names no file.
    """
    for each in _chain(error):
        if isinstance(each, MemoryError):
            return HostFault.OUT_OF_MEMORY.describe(place)
        sqlite_code = getattr(each, "sqlite_errorcode", None)
        # the low byte is the primary code; the rest of an extended code is the operation
        if isinstance(sqlite_code, int) and sqlite_code & 0xFF in _BY_SQLITE_CODE:
            return _BY_SQLITE_CODE[sqlite_code & 0xFF].describe("the database")
        if isinstance(each, OSError) and each.errno in _BY_ERRNO:
            return _BY_ERRNO[each.errno].describe(place or _place_of(each))
    return None


def explain_full_disk(directory: Path) -> FaultDescription | None:
    """Return the fault if `directory` has no room, for programs that report only that they failed."""
    try:
        state = os.statvfs(directory)
    except OSError:
        return None
    if state.f_bavail * state.f_frsize < FULL_BYTES or (state.f_files and not state.f_favail):
        return HostFault.DISK_FULL.describe(str(directory))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_MAX_CHAIN):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _place_of(error: OSError) -> str:
    for name in (error.filename2, error.filename):
        if isinstance(name, str) and name.startswith("/"):
            return name.rpartition("/")[0] or "/"
    return "this machine"
