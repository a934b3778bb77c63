# SPDX-License-Identifier: Apache-2.0
"""Certificates that are requested of the public CA: what it signs, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.public_certificates.errors import PublicCertificateError
from systemvm.management.public_certificates.requests import MAX_NAMES, is_reserved, read_request

DAMAGED = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
KEY = ec.generate_private_key(ec.SECP256R1())


def csr(*names: str, key: Any = KEY) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        found = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(found, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def test_names_are_those_of_the_request_unless_others_are_given() -> None:
    assert read_request(csr("Shop.example.test", "shop.example.test")).names == ("shop.example.test",)
    assert read_request(csr("shop.example.test"), ["b.example.test"]).names == ("b.example.test",)


@pytest.mark.parametrize(
    ("pem", "names", "message"),
    [
        (DAMAGED, [], "is no certificate"),
        (csr(), [], "it has no DNS name"),
        (csr("*.example.test"), [], "is not the name of a host"),
        (csr(), ["10.0.0.1 "], "is not the name of a host"),
        (csr(), [f"a{n}.example.test" for n in range(MAX_NAMES + 1)], "21 names, the maximum is 20"),
        (csr("a.example.test", key=rsa.generate_private_key(65537, 1024)), [], "RSA key of 1024 bits"),
        (csr("a.example.test", key=ed25519.Ed25519PrivateKey.generate()), [], "neither an RSA key nor"),
    ],
    ids=["damaged", "no name", "wildcard", "address", "too many", "short key", "Ed25519"],
)  # fmt: skip
def test_requests_that_are_refused(pem: str, names: list[str], message: str) -> None:
    with pytest.raises(PublicCertificateError, match=message):
        read_request(pem, names)


def test_a_request_with_the_signature_of_another_key_is_refused() -> None:
    whole = x509.load_pem_x509_csr(csr("a.example.test").encode()).public_bytes(Encoding.DER)
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    pem = x509.load_der_x509_csr(damaged).public_bytes(Encoding.PEM).decode()
    with pytest.raises(PublicCertificateError, match="signature"):
        read_request(pem)


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("page.example.test", True),
        ("203-0-113-100.console.example.test", True),
        ("a.b.console.example.test", False),
        ("console.example.test", False),
        ("shop.example.test", False),
    ],
)
def test_names_of_the_cloud_are_reserved(name: str, is_own: bool) -> None:
    assert is_reserved(name, {"page.example.test", "*.console.example.test", "203.0.113.1"}) is is_own


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    """A small cloud with a zone in a domain."""
    permitted = x509.NameConstraints([x509.DNSName("cloud.example.test")], None)
    cloud.sites._public.authority = CertificateAuthority.create("public CA", permitted)
    return cloud


@pytest_twisted.ensureDeferred
async def test_the_public_ca_signs_for_a_server_in_the_domain_of_a_zone(cloud: SmallCloud) -> None:
    name = "shop.cloud.example.test"
    job = await cloud.job("issueCertificate", csr=csr(name), duration=30, provider="root")
    assert job.result is not None
    found = job.result["certificates"]
    assert set(found) == {"certificate", "cacertificates"}
    leaf = x509.load_pem_x509_certificate(found["certificate"].encode())
    [root] = x509.load_pem_x509_certificates(found["cacertificates"].encode())
    leaf.verify_directly_issued_by(root)
    assert leaf.public_key() == KEY.public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]
    # OpenSSL would apply the root's constraints to the name of a host there, cut at 64 characters
    [common] = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert "." not in common.value
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.not_valid_after_utc <= datetime.now(UTC) + timedelta(days=30)
    control = (await cloud.call("listCaCertificate"))["cacertificates"]["certificate"]
    assert found["cacertificates"] not in control
    events = (await cloud.call("listEvents", type="CA.CERTIFICATE.ISSUE"))["event"]
    assert name in events[0]["description"]


@pytest_twisted.ensureDeferred
async def test_the_public_ca_signs_for_no_other_domain(cloud: SmallCloud) -> None:
    with pytest.raises(PublicCertificateError, match=r"bank\.example\.org is not within the domain"):
        await cloud.call("issueCertificate", csr=csr("shop.cloud.example.test", "bank.example.org"))


@pytest_twisted.ensureDeferred
async def test_names_of_consoles_are_signed_for_nobody(cloud: SmallCloud) -> None:
    wildcard = "*.Console.cloud.example.test"
    await cloud.call("updateConfiguration", name="consoleproxy.url.domain", value=wildcard)
    with pytest.raises(PublicCertificateError, match="is a name of this cloud's own"):
        await cloud.call("issueCertificate", csr=csr("203-0-113-100.console.cloud.example.test"))


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"duration": "0"}, ErrorCode.PARAMETER),
        ({"duration": "91"}, ErrorCode.PARAMETER),
        ({"ipaddress": "203.0.113.100"}, ErrorCode.PARAMETER),
        ({"provider": "other"}, ErrorCode.PARAMETER),
    ],
)
@pytest_twisted.ensureDeferred
async def test_parameters_that_are_refused(cloud: SmallCloud, more: dict[str, str], code: ErrorCode) -> None:
    with pytest.raises(ApiError) as error:
        await cloud.call("issueCertificate", csr=csr("shop.cloud.example.test"), **more)
    assert error.value.code is code
    assert next(iter(more)) in error.value.message


@pytest_twisted.ensureDeferred
async def test_only_root_administrators_have_certificates_issued(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError) as error:
        await cloud.call("issueCertificate", cloud.user, csr=csr("shop.cloud.example.test"))
    assert error.value.code is ErrorCode.UNSUPPORTED
