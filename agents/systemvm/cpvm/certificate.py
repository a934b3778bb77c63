# SPDX-License-Identifier: Apache-2.0
"""A TLS context from the daemon's certificate, checked before it replaces one that works."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from cryptography import x509


class CertificateError(Exception):
    """The certificate cannot serve; the message says why, and never holds any of it."""


def server_context(certificate_pem: str, private_key_pem: str, *, host: str, now: datetime) -> ssl.SSLContext:
    """A context for TLS 1.2 and up that proves `host`; raises CertificateError."""
    try:
        leaf = x509.load_pem_x509_certificates(certificate_pem.encode("utf-8"))[0]
    except (ValueError, IndexError):
        raise CertificateError("certificate_pem holds no PEM certificate") from None
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        window = (
            f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} to {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
        raise CertificateError(f"the certificate is valid from {window}, and it is {now:%Y-%m-%d %H:%M}")
    if not _names(leaf, host):
        raise CertificateError(f"the certificate does not name {host}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # TLS 1.2 with forward secrecy and AEAD alone; 1.3 has nothing else.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _in_memory(certificate_pem) as certificate_path, _in_memory(private_key_pem) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise CertificateError("the private key is not one, or not the certificate's") from None
    return context


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _names(leaf: x509.Certificate, host: str) -> bool:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    wanted = host.lower()
    for name in names.get_values_for_type(x509.DNSName):
        pattern = name.lower()
        if pattern == wanted or (pattern.startswith("*.") and wanted.partition(".")[2] == pattern[2:]):
            return True
    return False


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path to `text` that is on no disk: `ssl` reads certificates and keys from files alone."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode("utf-8"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
