# SPDX-License-Identifier: Apache-2.0
"""Files in memory that QEMU inherits: without a name and with sealed contents, they end with its process.

Nothing is left of one when the daemon is killed or a start fails, and no disk ever has its secrets.
"""

from __future__ import annotations

import fcntl
import os

from systemvm.management.hypervisors.errors import HypervisorError

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def open_memory_file(name: str, content: bytes) -> int:
    """Return a descriptor that only reads `content`; the caller closes it.

    Raises: HypervisorError when this host has no memory for it.
    """
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            unwritten = memoryview(content)
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]
            os.fchmod(descriptor, 0o400)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            # QEMU takes a descriptor for reading only if it is open for nothing else
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(
            f"{name} of {len(content)} bytes cannot be kept in memory: {error.strerror or error}",
            "free memory on this host, or raise the limits of systemvm-managementd",
        ) from error
