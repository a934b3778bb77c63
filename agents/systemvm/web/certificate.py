# SPDX-License-Identifier: Apache-2.0
"""A TLS context from the daemon's certificate, which is checked before it replaces the current one."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from cryptography import x509

from systemvm.service.errors import FailureCode, SystemVmError

#: The protocol of a handshake by which an ACME server checks a name (RFC 8737).
ACME_ALPN = "acme-tls/1"


class CertificateError(SystemVmError):
    """The certificate or key is unusable; the message never contains any part of them."""

    code = FailureCode.INVALID


def server_context(certificate_pem: str, private_key_pem: str, *, host: str, now: datetime) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and later with a certificate for `host`.

    Raises: CertificateError when the certificate is not PEM, not valid now, not for `host`, or not the key's.
    """
    try:
        leaf = x509.load_pem_x509_certificates(certificate_pem.encode("utf-8"))[0]
    except (ValueError, IndexError):
        raise CertificateError("certificate_pem does not contain a PEM certificate") from None
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        window = (
            f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} to {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
        raise CertificateError(f"certificate is not valid at {now:%Y-%m-%d %H:%M} UTC: valid from {window}")
    if not _is_for(leaf, host):
        raise CertificateError(f"certificate is not valid for {host}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Only ciphers with forward secrecy and AEAD in TLS 1.2; TLS 1.3 has no others.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    # A browser gets a new ticket with each resumption; each one more costs a write and a wake-up.
    context.num_tickets = 1
    _load(context, certificate_pem, private_key_pem)
    return context


def expiry_unix_s(certificate_pem: str) -> float:
    """Return when the first certificate of a chain ends.

    Raises: ValueError when there is none.
    """
    chain = x509.load_pem_x509_certificates(certificate_pem.encode("utf-8"))
    return min(each.not_valid_after_utc for each in chain).timestamp()


def challenge_context(certificate_pem: str, private_key_pem: str) -> ssl.SSLContext:
    """Return a context that answers ACME's challenge tls-alpn-01 and nothing else.

    Raises: CertificateError when certificate and key do not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([ACME_ALPN])
    _load(context, certificate_pem, private_key_pem)
    return context


def _load(context: ssl.SSLContext, certificate_pem: str, private_key_pem: str) -> None:
    try:
        with in_memory(certificate_pem) as certificate_path, in_memory(private_key_pem) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise CertificateError("private key is unusable or does not match the certificate") from None


def _no_password() -> str:
    raise ValueError("private key is encrypted")


def _is_for(leaf: x509.Certificate, host: str) -> bool:
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
def in_memory(text: str) -> Iterator[str]:
    """Yield a path to `text` in memory, because `ssl` reads certificates and keys only from files."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode("utf-8"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
