# SPDX-License-Identifier: Apache-2.0
"""Opens files beneath a directory, whatever another client of the store has put there.

openat2(2) rejects symbolic links, `..` and other mounts in every component; a check before an open cannot.
"""

from __future__ import annotations

import ctypes
import errno
import os

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Return a descriptor of `path` beneath `directory`.

    Raises: OSError as open(2) does; ELOOP or EXDEV for a path that leaves the directory.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE)
    while True:
        descriptor = _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            raise OSError(number, "this kernel has no openat2: Linux 5.6 or newer is needed", path)
        if number not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: a rename raced with the walk
            raise OSError(number, os.strerror(number), path)


def open_directory(directory: int, path: str) -> int:
    return open_beneath(directory, path, os.O_RDONLY | os.O_DIRECTORY)


def make_directories(directory: int, path: str, mode: int = 0o755) -> int:
    """Make the missing directories of `path` beneath `directory`, and open the last one."""
    here = os.dup(directory)
    try:
        for name in path.split("/"):
            try:
                os.mkdir(name, mode, dir_fd=here)
            except FileExistsError:
                pass
            else:
                os.fsync(here)
            inner = open_directory(here, name)
            os.close(here)
            here = inner
    except BaseException:
        os.close(here)
        raise
    return here
