# SPDX-License-Identifier: Apache-2.0
"""The identity in a certificate of the other end: name, role and extended key usage.

OpenSSL has verified the chain before these checks; they run after the handshake and before any frame.
"""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from systemvm.rpc.core.call import Caller, PeerCertificate
from systemvm.service.errors import SystemVmError
from systemvm.wire.control_failure import ControlFailure
from systemvm.wire.role import MANAGEMENT_SAN, Role

_AGENT_SAN = re.compile(r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.(ssvm|cpvm)\.systemvm")
_HOST_SAN = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,200}[a-z0-9])?)\." + re.escape(MANAGEMENT_SAN))
_INSTANCE_NAME = re.compile(r"([a-z]-\d+)-vm")


class IdentityRefused(SystemVmError):  # noqa: N818  a verdict
    """The chain is good, and this certificate still does not make its holder the other end we want."""

    def __init__(self, check: ControlFailure, text: str) -> None:
        super().__init__(text, code=check)
        self.check = check


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


def _require_usage(certificate: x509.Certificate, usage: x509.ObjectIdentifier, name: str) -> None:
    try:
        usages = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        usages = []
    if usages != [usage]:
        raise IdentityRefused(ControlFailure.USAGE, f"is not only for {name} (extended key usage)")


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
