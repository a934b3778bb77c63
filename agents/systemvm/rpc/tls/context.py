# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS 1.3 for the control channel, and who a certificate says the other end is.

The chain is OpenSSL's to check; name, role and extended key usage are checked here, after the handshake and
before any frame (`check_agent`, `check_daemon`). The contexts use no Python callback: a callback needs memory
that is both writable and executable, which the agents' units forbid. There is no resumption: a certificate
counts at every connection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from systemvm.rpc.core.call import Caller, PeerCertificate
from systemvm.rpc.tls.identity import Identity
from systemvm.service.errors import SystemVmError
from systemvm.wire.control_failure import ControlFailure
from systemvm.wire.role import MANAGEMENT_SAN, Role

__all__ = [
    "Identity",
    "IdentityRefused",
    "TlsOptions",
    "agent_options",
    "check_agent",
    "check_daemon",
    "daemon_options",
]

_AGENT_SAN = re.compile(r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.(ssvm|cpvm)\.systemvm")
_HOST_SAN = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,200}[a-z0-9])?)\." + re.escape(MANAGEMENT_SAN))
_INSTANCE_NAME = re.compile(r"([a-z]-\d+)-vm")


class IdentityRefused(SystemVmError):  # noqa: N818  a verdict
    """The chain is good, and this certificate still does not make its holder the other end we want."""

    def __init__(self, check: ControlFailure, text: str) -> None:
        super().__init__(text, code=check)
        self.check = check


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class TlsOptions:
    """One identity's OpenSSL context, for either side of a connection."""

    def __init__(self, identity: Identity, check: Callable[[x509.Certificate], Caller]) -> None:
        self.identity = identity
        self.check = check  # who is at the other end; IdentityRefused
        self._context = _context(identity)

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def agent_options(identity: Identity) -> TlsOptions:
    """What an agent dials with: the other end must be a daemon."""
    return TlsOptions(identity, check_daemon)


def daemon_options(identity: Identity) -> TlsOptions:
    """What a daemon listens with: the other end must be an agent."""
    return TlsOptions(identity, check_agent)


def check_agent(certificate: x509.Certificate) -> Caller:
    """The agent that `certificate` (of a verified chain) speaks for."""
    _require_usage(certificate, ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth")
    names = _dns_names(certificate)
    match = _AGENT_SAN.fullmatch(names[0]) if len(names) == 1 else None
    if match is None:
        text = f"names {_listed(names)} instead of one <name>.<role>.systemvm of an agent"
        raise IdentityRefused(ControlFailure.NAME, text)
    return Caller(_instance_name(match.group(1)), match.group(2), describe_certificate(certificate))


def check_daemon(certificate: x509.Certificate) -> Caller:
    """The daemon that `certificate` (of a verified chain) speaks for: any host's will do."""
    _require_usage(certificate, ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth")
    names = _dns_names(certificate)
    if MANAGEMENT_SAN not in names:
        raise IdentityRefused(ControlFailure.NAME, f"names {_listed(names)} without {MANAGEMENT_SAN}")
    hosts = [match.group(1) for name in names if (match := _HOST_SAN.fullmatch(name))]
    name = hosts[0] if hosts else Role.MANAGEMENT.value
    return Caller(name, Role.MANAGEMENT.value, describe_certificate(certificate))


def describe_certificate_pem(certificate_pem: bytes) -> PeerCertificate:
    """`describe_certificate`, of a PEM text."""
    return describe_certificate(x509.load_pem_x509_certificate(certificate_pem))


def describe_certificate(certificate: x509.Certificate) -> PeerCertificate:
    """What is remembered of a certificate for as long as its connection lasts."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        key_id = (issuer.key_identifier or b"").hex()
    except (x509.ExtensionNotFound, ValueError):
        key_id = ""
    return PeerCertificate(
        f"{certificate.serial_number:x}", certificate.not_valid_after_utc.timestamp(), key_id
    )


def _context(identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(os.urandom(16))
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    try:
        # Any: the installed stubs are older than pyOpenSSL, which wants cryptography's own objects.
        private_key: Any = load_pem_private_key(identity.private_key_pem, None)
        certificate: Any = x509.load_pem_x509_certificate(identity.certificate_pem)
        context.use_privatekey(private_key)
        context.use_certificate(certificate)
        context.check_privatekey()
        store = context.get_cert_store()
        authorities = identity.ca_certificates_pem()
        for pem in authorities:
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, pem))
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        text = f"identity is unusable ({type(error).__name__}): key, certificate and CA must fit"
        raise ValueError(text) from None
    if not authorities:
        raise ValueError("identity is unusable: it trusts no CA")
    return context


def _require_usage(certificate: x509.Certificate, usage: x509.ObjectIdentifier, name: str) -> None:
    try:
        usages = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        usages = []
    if usages != [usage]:
        raise IdentityRefused(ControlFailure.USAGE, f"is not for {name} alone (extended key usage)")


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _instance_name(label: str) -> str:
    """CloudStack writes `s-1-VM`; names of certificates keep no case, so its spelling is restored."""
    match = _INSTANCE_NAME.fullmatch(label)
    return f"{match.group(1)}-VM" if match else label


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:4]) or "nobody"
