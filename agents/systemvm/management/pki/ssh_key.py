# SPDX-License-Identifier: Apache-2.0
"""The zone's ssh key: its public half goes into every system VM's boot arguments."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from systemvm.management.pki.keystore import read_secret, write_secret

_FILE = "ssh_key"


@frozen
class SshKey:
    """The path of the private key, for `systemvm ssh`, and the public key as a line of authorized_keys."""

    path: Path
    public_line: str

    @classmethod
    def open(cls, directory: Path) -> SshKey:
        """Load the key from `directory`; create it at the first start."""
        path = directory / _FILE
        if not path.exists():
            fresh = ed25519.Ed25519PrivateKey.generate()
            write_secret(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        key = load_ssh_private_key(read_secret(path), password=None)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return cls(path, f"{public.decode()} systemvm")
