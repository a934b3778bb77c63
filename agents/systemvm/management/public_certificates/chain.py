# SPDX-License-Identifier: Apache-2.0
"""Checks a chain and its key before they are taken: sans-IO.

CloudStack stores what it gets, and console proxies that cannot use it do not start. Here whatever a browser
or OpenSSL would refuse is refused first, and the message says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from systemvm.management.public_certificates.errors import PublicCertificateError
from systemvm.management.public_certificates.parsing import (
    belongs_to,
    check_signature_hash,
    check_strength,
    key_as_pkcs8,
    read_certificates,
    read_key,
    subject_of,
)

_E = TypeVar("_E", bound=x509.ExtensionType)

#: Longer chains do not occur; each certificate is sent in every handshake.
MAX_CHAIN = 10


@frozen
class CheckedCertificate:
    """A chain as it is served: leaf first, in order, without the root, which browsers have themselves."""

    chain_pem: str
    key_pem: str = field(repr=False)
    root_pem: str | None  # None: the root is one that everybody knows
    names: tuple[str, ...]
    not_after: datetime


def check(
    certificate_pem: str,
    key_pem: str,
    more: Sequence[x509.Certificate],
    roots: Iterable[x509.Certificate],
    now: datetime,
    *,
    needs_root: bool = True,
) -> CheckedCertificate:
    """Check a certificate, its key, and the chain of both `certificate_pem` and `more`.

    `roots` are those that everybody trusts. The certificates can come in any order; they are served in the
    right one.

    Raises: PublicCertificateError that says what is wrong.
    """
    key = read_key(key_pem)
    given = read_certificates(certificate_pem, "certificate")
    leaf = next((each for each in given if belongs_to(each, key)), None)
    if leaf is None:
        raise PublicCertificateError(
            f"private key does not belong to certificate {subject_of(given[0])}",
            "send the key that the certificate was issued for",
            parameter="privatekey",
        )
    _check_leaf(leaf)
    above, root = _path(leaf, [*given, *more], list(roots), needs_root=needs_root)
    unused = [each for each in given if each not in (leaf, *above, root)]
    if unused:
        raise PublicCertificateError(
            f"certificate {subject_of(unused[0])} is not of the chain of {subject_of(leaf)}",
            "remove it from the file",
        )
    for each in (leaf, *above):
        _check_time(each, now)
        check_strength(each.public_key(), f"key of certificate {subject_of(each)}")
    own = root if root is not None and root not in roots else None
    if own is not None:
        _check_time(own, now)
    served = (leaf, *above)
    return CheckedCertificate(
        "".join(_pem(each) for each in served),
        key_as_pkcs8(key),
        None if own is None else _pem(own),
        tuple(names_of(leaf)),
        min(each.not_valid_after_utc for each in served),
    )


def check_part(pem: str, name: str, now: datetime) -> datetime:
    """Check a part of a chain, which comes before the certificate of the server; return when it ends.

    Raises: PublicCertificateError when it cannot be one.
    """
    given = read_certificates(pem, f"certificate {name}")
    for each in given:
        if not _is_authority(each):
            raise PublicCertificateError(
                f"certificate {subject_of(each)} is not that of a CA",
                "send the certificate of the server with its privatekey and without id and name",
            )
        _check_time(each, now)
        check_strength(each.public_key(), f"key of certificate {subject_of(each)}")
        if each.issuer != each.subject:
            check_signature_hash(each)
    return min(each.not_valid_after_utc for each in given)


def names_of(leaf: x509.Certificate) -> list[str]:
    """Return the DNS names and addresses that a certificate is for."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    dns_names = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return dns_names + [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def covers(names: Iterable[str], host: str) -> bool:
    """Return whether one of the names is for a host, or for all hosts of a domain (`*.example.test`)."""
    host = host.lower()
    wildcard = host if host.startswith("*.") else f"*.{host.partition('.')[2]}"
    return any(name in (host, wildcard) for name in names)


def check_domain(names: Sequence[str], suffix: str) -> None:
    """Check that a certificate has a name in a domain.

    Raises: PublicCertificateError when it has none.
    """
    if not any(name.removeprefix("*.") == suffix or name.endswith(f".{suffix}") for name in names):
        raise PublicCertificateError(
            f"certificate is not for {suffix}: it is for {', '.join(names[:10]) or 'no name'}",
            f"have a certificate issued for *.{suffix}, or send the domain that it is for",
        )


def _check_leaf(leaf: x509.Certificate) -> None:
    subject = subject_of(leaf)
    if not names_of(leaf):
        raise PublicCertificateError(
            f"certificate {subject} has no subject alternative name",
            "have it issued with its names as DNS names; browsers ignore the common name",
        )
    if _is_authority(leaf) and leaf.issuer != leaf.subject:
        raise PublicCertificateError(
            f"certificate {subject} is that of a CA", "send the certificate of the server and its key"
        )
    usages = _extension(leaf, x509.ExtendedKeyUsage)
    if usages is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise PublicCertificateError(
            f"certificate {subject} is not for servers: its extended key usage lacks serverAuth",
            "have a server certificate issued",
        )
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise PublicCertificateError(
            f"certificate {subject} cannot sign handshakes: its key usage lacks digitalSignature",
            "have a server certificate issued",
        )
    features = _extension(leaf, x509.TLSFeature)
    if features is not None and x509.TLSFeatureType.status_request in features:
        raise PublicCertificateError(
            f"certificate {subject} requires OCSP stapling, which consoles do not have",
            "have it issued without must-staple",
        )


def _path(
    leaf: x509.Certificate,
    given: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    needs_root: bool,
) -> tuple[list[x509.Certificate], x509.Certificate | None]:
    """Return the certificates above the leaf in order, and the root, None when it may be missing."""
    above: list[x509.Certificate] = []
    last = leaf
    while True:
        if last.issuer == last.subject:  # a leaf that signed itself is its own root
            return [each for each in above if each is not last], last
        check_signature_hash(last)  # of a root nobody checks it
        known = next((each for each in roots if _signed(each, last)), None)
        if known is not None:
            return above, known
        issuer = next((each for each in given if each not in (leaf, *above) and _signed(each, last)), None)
        if issuer is None:
            if not needs_root and above:
                return above, None
            raise PublicCertificateError(
                f"chain is incomplete: certificate {last.issuer.rfc4514_string()} is missing, which signed"
                f" {subject_of(last)}",
                "send it before, with id and name, or append it to the certificate; the root, too, unless it "
                "is one that this host trusts",
            )
        if issuer.issuer != issuer.subject and len(above) >= MAX_CHAIN:
            raise PublicCertificateError(
                f"chain is longer than {MAX_CHAIN} certificates",
                "have a certificate with a shorter one issued",
            )
        above.append(issuer)
        last = issuer


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if issuer.subject != certificate.issuer or not _is_authority(issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    return constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)


def _check_time(certificate: x509.Certificate, now: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now < end:
        which = "expired" if now >= end else "is not valid yet"
        raise PublicCertificateError(
            f"certificate {subject_of(certificate)} {which}: it is valid from {start:%Y-%m-%d %H:%M} to"
            f" {end:%Y-%m-%d %H:%M} UTC",
            "send one that is valid now" if now >= end else "wait, or correct the clock of this host",
        )


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
