# SPDX-License-Identifier: Apache-2.0
"""Key files: written atomically, and readable only by their owner."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from systemvm.service.errors import FailureCode, SystemVmError


class KeystoreError(SystemVmError):
    """A key file that is missing, unreadable, damaged, or readable by other users."""

    code = FailureCode.CONFIGURATION


def write_secret(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 from its first byte, and rename it into place."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def read_secret(path: Path) -> bytes:
    """Read a key file.

    Raises: KeystoreError when it cannot be read, or other users can read it, too.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise KeystoreError(f"cannot read {path}: {error.strerror}") from error
    if mode & 0o077:
        raise KeystoreError(
            f"{path} is readable by other users: its mode is {mode & 0o777:04o}", f'run "chmod 600 {path}"'
        )
    return data


def new_key() -> ec.EllipticCurvePrivateKey:
    """Create a P-256 key: small enough for SMBIOS, and fast under emulation."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeystoreError(f"{path} is not an elliptic curve key")
    return key
