# SPDX-License-Identifier: Apache-2.0
"""Private key, certificate and trusted control CA of one end; without OpenSSL, whose import is slow."""

from __future__ import annotations

import re

from attrs import field, frozen

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----\r?\n?", re.DOTALL)


@frozen
class Identity:
    """PEM texts; `ca_pem` can contain two CAs while the control CA is being replaced."""

    private_key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    ca_pem: bytes

    @classmethod
    def from_pem_bundle(cls, bundle: bytes) -> Identity:
        """Parse one private key, the certificate, then its CAs, as in the identity credential.

        Raises: ValueError that names the missing part and never quotes the bundle.
        """
        keys: list[bytes] = []
        certificates: list[bytes] = []
        for block in _BLOCK.finditer(bundle):
            label = block.group(1)
            text = block.group(0).replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
            if label.endswith(b"PRIVATE KEY"):
                keys.append(text)
            elif label == b"CERTIFICATE":
                certificates.append(text)
        if len(keys) != 1:
            raise ValueError(f"identity bundle: {len(keys)} private keys instead of one")
        if len(certificates) < 2:
            raise ValueError(f"identity bundle: {len(certificates)} certificates instead of one and its CA")
        return cls(keys[0], certificates[0], b"".join(certificates[1:]))

    def to_pem_bundle(self) -> bytes:
        """Return the text that `from_pem_bundle` parses."""
        parts = (self.private_key_pem, self.certificate_pem, self.ca_pem)
        return b"".join(pem.rstrip(b"\n") + b"\n" for pem in parts)

    def ca_certificates_pem(self) -> list[bytes]:
        """Return the trusted CAs one by one."""
        return [block.group(0) for block in _BLOCK.finditer(self.ca_pem) if block.group(1) == b"CERTIFICATE"]
