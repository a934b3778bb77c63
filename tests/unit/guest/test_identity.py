# SPDX-License-Identifier: Apache-2.0
"""The identity of an agent: bootstrap, renewal, and checks of a signed certificate."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred

from systemvm.guest.identity import AgentIdentity
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.tls.identity import Identity
from systemvm.wire import boot_arguments
from systemvm.wire.agent import SignedCertificate, SigningRequest
from systemvm.wire.role import Role

START = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = timedelta(days=30)


def certificate(key: Any, san: str, start: datetime = START, life: timedelta = LIFE) -> bytes:
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


class SigningPeer:
    """A daemon that signs requests, for another name, key or time if set."""

    def __init__(
        self, san: str = "s-1-vm.ssvm.systemvm", other_key: bool = False, start: datetime = START
    ) -> None:
        self.san = san
        self.other_key = other_key
        self.start = start
        self.requests: list[x509.CertificateSigningRequest] = []

    async def call(self, method: str, params: SigningRequest, **options: Any) -> SignedCertificate:
        assert method == "identity.sign"
        request = x509.load_pem_x509_csr(params.csr_pem.encode())
        self.requests.append(request)
        key = ec.generate_private_key(ec.SECP256R1()).public_key() if self.other_key else request.public_key()
        pem = certificate(key, self.san, self.start).decode()
        return SignedCertificate(pem, pem)


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = certificate(key.public_key(), "s-1-vm.ssvm.systemvm")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(Identity(private, pem, pem).to_pem_bundle())
    return GuestPaths(tmp_path / "root", tmp_path)


class FakeTime:
    def __init__(self) -> None:
        self.now = START + timedelta(hours=1)

    def __call__(self) -> float:
        return self.now.timestamp()


def renew(identity: AgentIdentity, peer: SigningPeer) -> None:
    failures: list[Any] = []
    Deferred.fromCoroutine(identity.renew(peer)).addErrback(failures.append)  # type: ignore[arg-type]
    if failures:
        raise failures[0].value


def test_the_bootstrap_identity_is_replaced_by_its_own(paths: GuestPaths) -> None:
    now = FakeTime()
    identity = AgentIdentity(paths, "s-1-VM", Role.SSVM, now)
    bootstrap = identity.current()
    assert identity.due()
    peer = SigningPeer()
    renew(identity, peer)
    own = identity.current()
    assert own != bootstrap
    assert not identity.due()
    request = peer.requests[0]
    assert request.is_signature_valid
    assert isinstance(request.public_key(), ec.EllipticCurvePublicKey)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["s-1-vm.ssvm.systemvm"]
    assert stat.S_IMODE(paths.own_identity.stat().st_mode) == 0o600
    assert not paths.bootstrap_identity.exists()

    again = AgentIdentity(paths, "s-1-VM", Role.SSVM, now)  # after a restart
    assert again.current() == own
    assert (
        AgentIdentity(paths, "s-2-VM", Role.SSVM, now).current() == bootstrap
    )  # an identity of another name is not used


def test_an_identity_is_renewed_when_a_third_of_its_life_is_left(paths: GuestPaths) -> None:
    now = FakeTime()
    identity = AgentIdentity(paths, "s-1-VM", Role.SSVM, now)
    bootstrap = identity.current()
    renew(identity, SigningPeer())
    own = identity.current()
    now.now = START + timedelta(days=19)
    assert not identity.due()
    now.now = START + timedelta(days=20, minutes=1)
    assert identity.due()
    assert identity.current() == own
    # the local clock can be wrong, so the longest valid identity is still presented to the daemon
    now.now = START + timedelta(days=31)
    assert identity.current() == own
    assert own != bootstrap


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        (SigningPeer(other_key=True), "for another key"),
        (SigningPeer(san="s-2-vm.ssvm.systemvm"), "s-2-vm"),
        (SigningPeer(start=START + timedelta(days=2)), "not valid now"),
        (SigningPeer(start=START - timedelta(days=90)), "not valid now"),
    ],
)
def test_a_wrong_certificate_is_refused(paths: GuestPaths, peer: SigningPeer, message: str) -> None:
    identity = AgentIdentity(paths, "s-1-VM", Role.SSVM, FakeTime())
    bootstrap = identity.current()
    with pytest.raises(ValueError, match=message):
        renew(identity, peer)
    assert identity.current() == bootstrap
    assert not paths.own_identity.exists()


def test_an_identity_in_cloudstacks_keys_is_used(paths: GuestPaths) -> None:
    assert paths.identity_credential is not None
    bundle = paths.identity_credential.read_bytes()
    paths.identity_credential.unlink()
    identity = AgentIdentity(paths, "s-1-VM", Role.SSVM, FakeTime())
    with pytest.raises(ValueError, match="identity is missing"):
        identity.current()
    paths.bootstrap_identity.parent.mkdir(parents=True)
    paths.bootstrap_identity.write_bytes(bundle)
    assert identity.current().to_pem_bundle() == bundle


def test_the_bootstrap_identity_is_erased_after_the_first_renewal(paths: GuestPaths) -> None:
    assert paths.identity_credential is not None
    bundle = paths.identity_credential.read_bytes()
    paths.bootstrap_identity.parent.mkdir(parents=True)
    paths.bootstrap_identity.write_bytes(bundle)
    identity = AgentIdentity(paths, "s-1-VM", Role.SSVM, FakeTime())
    with pytest.raises(ValueError, match="is for"):
        renew(identity, SigningPeer(san="s-9-vm.ssvm.systemvm"))
    assert paths.bootstrap_identity.exists(), "it is needed until a renewal succeeds"
    renew(identity, SigningPeer())
    assert not paths.bootstrap_identity.exists()


def test_a_damaged_file_is_ignored(paths: GuestPaths) -> None:
    paths.own_identity.parent.mkdir(parents=True)
    paths.own_identity.write_text("-----BEGIN CERTIFICATE-----\nnothing\n")
    assert AgentIdentity(paths, "s-1-VM", Role.SSVM, FakeTime()).due()
