# SPDX-License-Identifier: Apache-2.0
"""Files in memory that QEMU inherits: without a name and with sealed contents, they end with its process.

Nothing is left of one when the daemon is killed or a start fails, and no file system has its secrets. Memory
can be swapped out: a host of such machines has no swap, or an encrypted one.
"""

from __future__ import annotations

import errno
import fcntl
import os

from systemvm.management.hypervisors.errors import HypervisorError

_MFD_NOEXEC_SEAL = 8  # not in os before Python 3.14
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def open_memory_file(name: str, content: bytes) -> int:
    """Return a descriptor that only reads `content`; the caller closes it.

    Raises: HypervisorError when this host has no memory for it.
    """
    try:
        descriptor = _create(name)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            unwritten = memoryview(content)
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]
            os.fchmod(descriptor, 0o400)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            # QEMU takes a descriptor for reading only if it is open for nothing else
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        is_forbidden = error.errno in (errno.EACCES, errno.EPERM)
        raise HypervisorError(
            f"{name} of {len(content)} bytes cannot be kept in memory: {error.strerror or error}",
            "permit memfd_create: check vm.memfd_noexec, and what confines systemvm-managementd"
            if is_forbidden
            else "free memory on this host, or raise the limits of systemvm-managementd",
        ) from error


def _create(name: str) -> int:
    """Create a file that nobody executes: with `vm.memfd_noexec=2` the kernel makes no other."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)  # before Linux 6.3
