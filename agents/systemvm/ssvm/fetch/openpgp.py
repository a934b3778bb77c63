# SPDX-License-Identifier: Apache-2.0
"""Signatures of checksum files (RFC 9580), verified with the keys that the zone trusts.

By pysequoia, the binding of Sequoia, with which Debian's apt verifies, too. It is loaded when a signature is
to be verified: most downloads have none.
"""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

_CLEARTEXT = b"-----BEGIN PGP SIGNED MESSAGE-----"


def is_signed_text(document: bytes) -> bool:
    """Return whether a document contains its signature (RFC 9580, 7), as Fedora's checksum files do."""
    return document.lstrip().startswith(_CLEARTEXT)


def verify(document: bytes, signature: bytes | None, trusted_keys: str | None) -> bytes:
    """Return what is signed of `document`; `signature` is None for signed text.

    Raises: TransferError unless one of the trusted keys has made the signature.
    """
    if not trusted_keys:
        raise TransferError(
            TransferFailure.SIGNATURE_INVALID,
            "checksum file is signed, but the zone trusts no key",
            "set source_keyring_file in the zone's file to the publisher's keys",
        )
    import pysequoia

    try:
        certificates = pysequoia.Cert.split_bytes(trusted_keys.encode())
    except Exception:  # pysequoia raises RuntimeError with a stack trace for everything
        raise TransferError(
            TransferFailure.REQUEST_INVALID,
            "keys of the zone are not OpenPGP certificates",
            "correct source_keyring_file in the zone's file",
        ) from None
    try:
        detached = None if signature is None else pysequoia.Sig.from_bytes(signature)
        verified = pysequoia.verify(bytes=document, store=lambda ids: certificates, signature=detached)
        content = verified.bytes if verified.valid_sigs else None
    except Exception:
        content = None
    if content is None:
        raise TransferError(
            TransferFailure.SIGNATURE_INVALID,
            "signature of the checksum file cannot be verified with the keys that the zone trusts",
            "compare the keys in source_keyring_file with the publisher's",
        )
    return bytes(content)
