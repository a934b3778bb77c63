# SPDX-License-Identifier: Apache-2.0
"""Encryption of the database's secrets that are needed in clear text: a copied database reveals none."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from systemvm.management.pki.keystore import KeystoreError, read_secret, write_secret

_NONCE_BYTES = 12
_FILE = "seal.key"


class Seal:
    """AES-256-GCM with its own key, which is stored beside the CAs and never in the database."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)

    @classmethod
    def open_key(cls, directory: Path) -> Seal:
        """Load the key from `directory`; create it at the first start.

        Raises: KeystoreError when the file is damaged or readable by other users.
        """
        path = directory / _FILE
        if not path.exists():
            write_secret(path, AESGCM.generate_key(256))
        key = read_secret(path)
        if len(key) != 32:
            raise KeystoreError(f"{path} is damaged: it has {len(key)} bytes, it must have 32")
        return cls(key)

    def derive_uuid(self, purpose: str) -> str:
        """Return the secret that belongs to a purpose: always the same, and unknown without the key."""
        derived = HKDF(hashes.SHA256(), 16, salt=None, info=purpose.encode()).derive(self._key)
        return str(uuid.UUID(bytes=derived, version=4))

    def close(self, secret: str) -> bytes:
        """Encrypt a secret; the result differs each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), None)

    def open(self, sealed: bytes) -> str:
        """Decrypt a secret.

        Raises: KeystoreError when it was encrypted with another key, or changed.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
        except (InvalidTag, ValueError) as error:
            raise KeystoreError(
                "cannot decrypt a stored secret: seal.key is not the key that it was encrypted with"
            ) from error
