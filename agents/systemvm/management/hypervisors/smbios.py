# SPDX-License-Identifier: Apache-2.0
"""systemd credentials as SMBIOS type 11 strings, which QEMU reads from files and never from its argv."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path

from systemvm.management.hypervisors.errors import HypervisorError

#: The limit of all SMBIOS tables together, and the part for QEMU's own tables and the type 11 header.
TABLES_BYTES = 65_535
RESERVED_BYTES = 1_024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def credential_strings(credentials: Mapping[str, bytes]) -> list[bytes]:
    """Return one type 11 string for each credential, in base64, because QEMU rejects a NUL in a string.

    Raises: HypervisorError when a name is invalid or the tables are too small.
    """
    strings: list[bytes] = []
    for name, value in credentials.items():
        if not _NAME.fullmatch(name):
            raise HypervisorError(f"{name!r} is not a valid name of a credential")
        strings.append(f"io.systemd.credential.binary:{name}=".encode() + base64.b64encode(value))
    needed = sum(len(string) + 1 for string in strings)
    if needed > TABLES_BYTES - RESERVED_BYTES:
        raise HypervisorError(
            f"credentials are too large for SMBIOS: {needed} bytes, the maximum is "
            f"{TABLES_BYTES - RESERVED_BYTES}",
            "use P-256 keys and short CA chains, or fewer boot arguments",
        )
    return strings


def write(directory: Path, name: str, strings: list[bytes]) -> list[Path]:
    """Write one file for each string, readable by the owner and the directory's group, which is QEMU's."""
    paths: list[Path] = []
    for index, string in enumerate(strings):
        path = directory / f"{name}.smbios{index}"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(string)
        paths.append(path)
    return paths
