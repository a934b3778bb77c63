# SPDX-License-Identifier: Apache-2.0
"""Identities that must be refused on the control channel, and TLS contexts of the standard library."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpc_pki import TestAuthority
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.public import SUBJECT
from systemvm.rpc.tls.identity import Identity

AUTHORITY = TestAuthority()
OTHER_CA = TestAuthority()
MINUTE = datetime.timedelta(minutes=1)
AGENT_NAME = ["s-1-vm.ssvm.systemvm"]
DAEMON_NAMES = ["host-1.management.systemvm", "management.systemvm"]
REVOKED = AUTHORITY.agent("s-66-VM")
HELLO = b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{}}\n'


def self_signed(names: list[str], usage: Any) -> Identity:
    """Return an identity whose certificate is its own CA."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from systemvm.management.pki.keystore import key_to_pem

    authority = CertificateAuthority.create("self")
    builder = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(authority.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.certificate.not_valid_before_utc)
        .not_valid_after(authority.certificate.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    from cryptography.hazmat.primitives import hashes

    signed = builder.sign(authority.key, hashes.SHA256())
    pem = signed.public_bytes(Encoding.PEM)
    return Identity(key_to_pem(authority.key), pem, pem)


def of_public_ca(names: list[str], usage: Any) -> Identity:
    """Return an identity with valid names, issued by the CA for browsers."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from systemvm.management.pki.keystore import key_to_pem, new_key

    public = CertificateAuthority.create("systemvm public CA")
    key = new_key()
    leaf = public.issue(
        key.public_key(), SUBJECT, [x509.DNSName(name) for name in names], usage, datetime.timedelta(days=1)
    )
    return Identity(key_to_pem(key), leaf.public_bytes(Encoding.PEM), public.certificate_pem)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def context_of(identity: Identity | None, directory: Path, *, server: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        path = directory / f"end-{server}.pem"
        path.write_bytes(identity.private_key_pem + identity.certificate_pem)
        context.load_cert_chain(path)
    return context
