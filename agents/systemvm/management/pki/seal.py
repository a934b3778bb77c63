# SPDX-License-Identifier: Apache-2.0
"""The seal on secrets that the database must give back in clear: a copied database alone opens none."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from systemvm.management.pki.keystore import KeystoreError, read_secret, write_secret

_NONCE_BYTES = 12
_FILE = "seal.key"


class Seal:
    """AES-256-GCM with a key of its own, kept beside the CAs and never in the database."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def open_key(cls, directory: Path) -> Seal:
        """The key kept in `directory`, made at the first start."""
        path = directory / _FILE
        if not path.exists():
            write_secret(path, AESGCM.generate_key(256))
        key = read_secret(path)
        if len(key) != 32:
            raise KeystoreError(f"{path}: holds {len(key)} bytes, not 32")
        return cls(key)

    def close(self, secret: str) -> bytes:
        """Seal a secret; the same one looks different each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), None)

    def open(self, sealed: bytes) -> str:
        """The secret again; KeystoreError when it was sealed with another key, or changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
        except (InvalidTag, ValueError) as error:
            raise KeystoreError(
                "a sealed secret does not open: seal.key is not the one it was made with"
            ) from error
