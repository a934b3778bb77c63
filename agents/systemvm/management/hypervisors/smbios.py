# SPDX-License-Identifier: Apache-2.0
"""systemd credentials in SMBIOS type 11 strings, handed to QEMU by file and never by value."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path

from systemvm.management.hypervisors.errors import HypervisorError

#: All SMBIOS tables together; QEMU's own tables and our type 11 header need some of it.
TABLES_BYTES = 65_535
RESERVED_BYTES = 1_024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def credential_strings(credentials: Mapping[str, bytes]) -> list[bytes]:
    """One type 11 string a credential; HypervisorError when the tables cannot hold them.

    Everything goes as base64, so that no value can hold a NUL, on which QEMU gives up.
    """
    strings: list[bytes] = []
    for name, value in credentials.items():
        if not _NAME.fullmatch(name):
            raise HypervisorError(f"{name!r} is no name for a credential")
        strings.append(f"io.systemd.credential.binary:{name}=".encode() + base64.b64encode(value))
    needed = sum(len(string) + 1 for string in strings)
    if needed > TABLES_BYTES - RESERVED_BYTES:
        raise HypervisorError(
            f"the machine's credentials need {needed} bytes of SMBIOS tables, which have room for "
            f"{TABLES_BYTES - RESERVED_BYTES}",
            "use P-256 keys and short CA chains, or fewer boot arguments",
        )
    return strings


def write(directory: Path, name: str, strings: list[bytes]) -> list[Path]:
    """A file a string, for its owner and the directory's group (QEMU's); removed once QEMU has read it."""
    paths: list[Path] = []
    for number, string in enumerate(strings):
        path = directory / f"{name}.smbios{number}"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(string)
        paths.append(path)
    return paths
