# SPDX-License-Identifier: Apache-2.0
"""Every reason for which a certificate of the public side is refused before it is taken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from public_pki import DOMAIN, INTERMEDIATE, NOW, ROOT, WILDCARD, Issued, issue, server
from systemvm.management.public_certificates.chain import (
    CheckedCertificate,
    check,
    check_domain,
    check_part,
    covers,
)
from systemvm.management.public_certificates.errors import PublicCertificateError

GOOD = server()
CHAIN = [INTERMEDIATE.certificate, ROOT.certificate]


def checked(
    leaf: Issued = GOOD,
    *,
    key_pem: str | None = None,
    more: list[x509.Certificate] | None = None,
    text: str = "",
) -> CheckedCertificate:
    return check(text or leaf.pem, key_pem or leaf.key_pem, CHAIN if more is None else more, [], NOW)


def refusal(take: Callable[[], object]) -> PublicCertificateError:
    with pytest.raises(PublicCertificateError) as raised:
        take()
    assert raised.value.hint, "a refusal says what to do"
    assert "PRIVATE" not in raised.value.message
    return raised.value


def test_a_chain_is_served_in_order_without_its_root() -> None:
    taken = checked(more=[], text=ROOT.pem + GOOD.pem + INTERMEDIATE.pem)
    assert taken.chain_pem == GOOD.pem + INTERMEDIATE.pem
    assert (taken.root_pem, taken.names) == (ROOT.pem, (WILDCARD,))
    assert taken.not_after == GOOD.certificate.not_valid_after_utc
    assert checked() == taken
    assert GOOD.key_pem not in repr(taken)


def test_a_root_that_everybody_knows_is_not_needed() -> None:
    taken = check(GOOD.pem + INTERMEDIATE.pem, GOOD.key_pem, [], [ROOT.certificate], NOW)
    assert taken.root_pem is None


def test_a_certificate_that_signed_itself_is_its_own_root() -> None:
    own = issue("self", None, [DOMAIN])
    taken = checked(own, more=[])
    assert taken.chain_pem == taken.root_pem == own.pem


def test_the_key_of_another_certificate_is_refused() -> None:
    assert "does not belong" in refusal(lambda: checked(key_pem=server().key_pem)).message


@pytest.mark.parametrize("text", ["", "no key", GOOD.pem])
def test_what_is_not_a_key_is_refused(text: str) -> None:
    wrong = refusal(lambda: check(GOOD.pem, text, CHAIN, [], NOW))
    assert "not a PKCS#8 key" in wrong.message


def test_an_encrypted_key_is_refused() -> None:
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    encrypted = GOOD.key.private_bytes(*form).decode()
    assert "is encrypted" in refusal(lambda: checked(key_pem=encrypted)).message


def test_what_is_not_a_certificate_is_refused() -> None:
    assert "not a certificate in PEM" in refusal(lambda: checked(text="no certificate")).message
    damaged = GOOD.pem.replace("MII", "MIX", 1)
    assert "not a certificate in PEM" in refusal(lambda: checked(text=damaged)).message


def test_a_chain_with_a_gap_is_refused_and_the_missing_one_named() -> None:
    wrong = refusal(lambda: checked(more=[ROOT.certificate]))
    assert "CN=test intermediate is missing" in wrong.message
    wrong = refusal(lambda: checked(more=[INTERMEDIATE.certificate]))
    assert "CN=test root is missing" in wrong.message


def test_a_certificate_of_another_chain_is_refused() -> None:
    other = issue("stranger", None, is_ca=True)
    assert "CN=stranger is not of the chain" in refusal(lambda: checked(text=GOOD.pem + other.pem)).message


def test_an_issuer_with_the_right_name_and_another_key_is_refused() -> None:
    forged = issue("test intermediate", ROOT, is_ca=True)
    wrong = refusal(lambda: checked(more=[forged.certificate, ROOT.certificate]))
    assert "is missing" in wrong.message


def test_an_issuer_that_is_not_a_ca_is_refused() -> None:
    pretender = issue("pretender", ROOT, ["pretender.example.test"])
    leaf = issue("server", pretender, [DOMAIN])
    wrong = refusal(lambda: checked(leaf, more=[pretender.certificate, ROOT.certificate]))
    assert "CN=pretender is missing" in wrong.message


@pytest.mark.parametrize(
    ("starts_days", "ends_days", "text"), [(-90, -1, "expired"), (1, 90, "is not valid yet")]
)
def test_one_that_is_not_valid_now_is_refused(starts_days: int, ends_days: int, text: str) -> None:
    times = {"starts": NOW + timedelta(days=starts_days), "ends": NOW + timedelta(days=ends_days)}
    assert text in refusal(lambda: checked(server(**times))).message


def test_an_expired_part_of_the_chain_is_refused() -> None:
    old = issue("old", ROOT, is_ca=True, starts=NOW - timedelta(days=9), ends=NOW - timedelta(days=1))
    leaf = issue("server", old, [DOMAIN])
    wrong = refusal(lambda: checked(leaf, more=[old.certificate, ROOT.certificate]))
    assert "CN=old expired" in wrong.message


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits"),
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
    ],
)
def test_a_key_that_browsers_refuse_is_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, text: str
) -> None:
    assert text in refusal(lambda: checked(server(key=key))).message


def test_an_ed25519_key_is_refused() -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption

    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert "neither an RSA key" in refusal(lambda: checked(key_pem=pem)).message


def test_a_weak_key_in_the_chain_is_refused() -> None:
    weak = issue("weak", ROOT, is_ca=True, key=rsa.generate_private_key(65537, 1024))
    leaf = issue("server", weak, [DOMAIN])
    wrong = refusal(lambda: checked(leaf, more=[weak.certificate, ROOT.certificate]))
    assert "key of certificate CN=weak" in wrong.message


def test_a_signature_by_sha1_is_refused(sha1_signed: Issued) -> None:
    assert "signed by SHA1" in refusal(lambda: checked(sha1_signed)).message


@pytest.fixture
def sha1_signed(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    """cryptography signs nothing by SHA-1; the openssl program does."""
    import subprocess

    directory = tmp_path_factory.mktemp("sha1")
    leaf = server()
    for name, text in (("ca.pem", INTERMEDIATE.pem), ("ca.key", INTERMEDIATE.key_pem), ("key", leaf.key_pem)):
        (directory / name).write_text(text)
    (directory / "ext").write_text(f"subjectAltName=DNS:{WILDCARD}\n")
    request = ["openssl", "req", "-new", "-key", "key", "-subj", "/CN=server", "-out", "csr"]
    sign = ["openssl", "x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    more = ["-sha1", "-days", "30", "-extfile", "ext", "-out", "leaf.pem"]
    for command in (request, [*sign, *more]):
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    certificate = x509.load_pem_x509_certificate((directory / "leaf.pem").read_bytes())
    return Issued(certificate, leaf.key)


def test_one_without_names_is_refused() -> None:
    wrong = refusal(lambda: checked(issue("server", INTERMEDIATE)))
    assert "no subject alternative name" in wrong.message


def test_the_certificate_of_a_ca_is_refused() -> None:
    assert "is that of a CA" in refusal(lambda: checked(issue("ca", ROOT, [DOMAIN], is_ca=True))).message


def test_one_for_clients_is_refused() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    leaf = server(build=lambda builder: builder.add_extension(usage, critical=False))
    assert "lacks serverAuth" in refusal(lambda: checked(leaf)).message


def test_one_that_cannot_sign_handshakes_is_refused() -> None:
    names = ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    flags = dict.fromkeys((*names, "encipher_only", "decipher_only", "digital_signature"), False)
    usage = x509.KeyUsage(**flags, key_encipherment=True)
    leaf = server(build=lambda builder: builder.add_extension(usage, critical=True))
    assert "lacks digitalSignature" in refusal(lambda: checked(leaf)).message


def test_one_that_must_be_stapled_is_refused() -> None:
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    leaf = server(build=lambda builder: builder.add_extension(feature, critical=False))
    assert "requires OCSP stapling" in refusal(lambda: checked(leaf)).message


@pytest.mark.parametrize("names", [[WILDCARD], [DOMAIN], [f"a.{DOMAIN}", "other.test"]])
def test_a_name_of_the_domain_is_enough(names: list[str]) -> None:
    check_domain(names, DOMAIN)


@pytest.mark.parametrize("names", [["*.example.test"], ["example.test"], [f"x{DOMAIN}"], []])
def test_names_of_other_domains_are_refused(names: list[str]) -> None:
    assert f"is not for {DOMAIN}" in refusal(lambda: check_domain(names, DOMAIN)).message


@pytest.mark.parametrize(
    ("host", "is_covered"),
    [
        (WILDCARD, True),
        (f"203-0-113-9.{DOMAIN}", True),
        (f"203-0-113-9.{DOMAIN}".upper(), True),
        (DOMAIN, False),
        (f"a.b.{DOMAIN}", False),
        ("*.example.test", False),
    ],
)
def test_a_wildcard_covers_one_label(host: str, is_covered: bool) -> None:
    assert covers([WILDCARD], host) is is_covered


def test_a_part_of_a_chain_must_be_of_a_ca() -> None:
    assert check_part(INTERMEDIATE.pem, "middle", NOW) == INTERMEDIATE.certificate.not_valid_after_utc
    assert "is not that of a CA" in refusal(lambda: check_part(GOOD.pem, "middle", NOW)).message
    assert "not a certificate" in refusal(lambda: check_part("", "middle", NOW)).message
