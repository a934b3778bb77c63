# SPDX-License-Identifier: Apache-2.0
"""The files from which QEMU's VNC server or serial port has its certificate: the layout of tls-creds-x509."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from systemvm.management.pki.screens import ScreenIdentity


def write(directory: Path, identity: ScreenIdentity) -> None:
    """Write the three files, readable by the owner and by the group of the parent, which is QEMU's.

    Each is replaced as a whole; QEMU reads them at its start and when it is told to.
    """
    # The group is inherited by the parent's set-group-ID bit, which RestrictSUIDSGID= forbids to set.
    directory.mkdir(mode=0o750, exist_ok=True)
    for name, content in (
        ("ca-cert.pem", identity.ca_pem),
        ("server-cert.pem", identity.certificate_pem),
        ("server-key.pem", identity.private_key_pem),
    ):
        _replace(directory / name, content)


def remove(directory: Path) -> None:
    """Remove the files; does nothing when there are none."""
    shutil.rmtree(directory, ignore_errors=True)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
