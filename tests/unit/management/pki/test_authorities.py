# SPDX-License-Identifier: Apache-2.0
"""Certificates of the two CAs, verified by `cryptography` and OpenSSL."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier, Lock, Thread

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from msgspec.structs import replace
from OpenSSL import crypto

from systemvm.host.zone import ZoneConfig
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity, SigningRefusedError
from systemvm.management.pki.keystore import KeystoreError
from systemvm.management.pki.public import EARLIER, IdentitySource, NotPermittedError, PublicAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.pki.ssh_key import SshKey
from systemvm.rpc.tls.peer_certificate import IdentityRefused, check_agent, check_daemon
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import MANAGEMENT_SAN, Role

PAGE = PublicEndpoint.parse("https://cloud.page.test:8080")


def verify_server(leaf_pem: bytes, ca_pem: bytes, host: str, at: datetime | None = None) -> None:
    try:
        name: x509.DNSName | x509.IPAddress = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    builder = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(ca_pem)))
    if at is not None:
        builder = builder.time(at)
    builder.build_server_verifier(name).verify(x509.load_pem_x509_certificates(leaf_pem)[0], [])


def verify_client(leaf_pem: bytes, ca_pem: bytes, at: datetime | None = None) -> list[str]:
    builder = PolicyBuilder().store(Store(x509.load_pem_x509_certificates(ca_pem)))
    if at is not None:
        builder = builder.time(at)
    verified = builder.build_client_verifier().verify(x509.load_pem_x509_certificate(leaf_pem), [])
    return [str(name.value) for name in verified.subjects or []]


def verify_with_openssl(leaf: x509.Certificate, ca_pem: bytes) -> None:
    """OpenSSL, which curl and most servers use, has its own rules about names and constraints."""
    store = crypto.X509Store()
    store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, ca_pem))
    crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf)).verify_certificate()


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *names: str) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def control(tmp_path: Path) -> ControlAuthority:
    return ControlAuthority.open(tmp_path)


def test_bootstrap_identity_is_for_one_agent_and_one_day(control: ControlAuthority) -> None:
    identity = control.bootstrap("s-1-VM", Role.SSVM)
    assert verify_client(identity.certificate_pem, identity.ca_pem) == ["s-1-vm.ssvm.systemvm"]
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    caller = check_agent(certificate)
    assert (caller.name, caller.role) == ("s-1-VM", "ssvm")
    now = datetime.now(UTC)
    for at in (now - timedelta(hours=2), now + timedelta(hours=25)):
        with pytest.raises(VerificationError):
            verify_client(identity.certificate_pem, identity.ca_pem, at)
    verify_client(identity.certificate_pem, identity.ca_pem, now - timedelta(minutes=59))
    assert len(identity.to_pem_bundle()) < 4096


def test_agents_and_daemons_cannot_impersonate_each_other(control: ControlAuthority) -> None:
    agent, daemon = control.bootstrap("v-2-VM", Role.CPVM), control.daemon_identity("Host_1")
    verify_server(daemon.certificate_pem, daemon.ca_pem, MANAGEMENT_SAN)
    verify_server(daemon.certificate_pem, daemon.ca_pem, f"host-1.{MANAGEMENT_SAN}")
    assert check_daemon(x509.load_pem_x509_certificate(daemon.certificate_pem)).name == "host-1"
    with pytest.raises(VerificationError):
        verify_client(daemon.certificate_pem, daemon.ca_pem)
    with pytest.raises(VerificationError):
        verify_server(agent.certificate_pem, agent.ca_pem, "v-2-vm.cpvm.systemvm")
    with pytest.raises(IdentityRefused):
        check_agent(x509.load_pem_x509_certificate(daemon.certificate_pem))
    with pytest.raises(IdentityRefused):
        check_daemon(x509.load_pem_x509_certificate(agent.certificate_pem))


def test_an_agents_own_key_is_signed_for_its_own_name(control: ControlAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signed = control.sign(request(key, "S-1-VM.ssvm.systemvm"), "s-1-VM", Role.SSVM).encode()
    later = datetime.now(UTC) + timedelta(days=29)
    assert verify_client(signed, control.ca_pem, later) == ["s-1-vm.ssvm.systemvm"]
    assert x509.load_pem_x509_certificate(signed).public_key() == key.public_key()
    control.sign(request(key), "s-1-VM", Role.SSVM)


@pytest.mark.parametrize(
    "names",
    [
        ["s-2-vm.ssvm.systemvm"],
        ["s-1-vm.cpvm.systemvm"],
        [MANAGEMENT_SAN],
        ["s-1-vm.ssvm.systemvm", MANAGEMENT_SAN],
    ],
)
def test_no_other_name_is_signed(control: ControlAuthority, names: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SigningRefusedError, match="only"):
        control.sign(request(key, *names), "s-1-VM", Role.SSVM)


def test_invalid_signing_request_is_rejected(control: ControlAuthority) -> None:
    with pytest.raises(SigningRefusedError, match="not a PKCS #10 request"):
        control.sign("nothing", "s-1-VM", Role.SSVM)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(SigningRefusedError, match="P-256"):
        control.sign(request(key, "s-1-vm.ssvm.systemvm"), "s-1-VM", Role.SSVM)


def test_certificate_takes_only_the_key_from_a_request(control: ControlAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = control.sign(csr.public_bytes(serialization.Encoding.PEM).decode(), "s-1-VM", Role.SSVM)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_roots_persist_and_only_the_owner_can_read_keys(tmp_path: Path) -> None:
    first, second = ControlAuthority.open(tmp_path), ControlAuthority.open(tmp_path)
    assert first.ca_pem == second.ca_pem
    Seal.open_key(tmp_path)
    SshKey.open(tmp_path)
    for name in ("control-ca.key", "seal.key", "ssh_key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name
    (tmp_path / "control-ca.key").chmod(0o640)
    with pytest.raises(KeystoreError, match="readable by other users"):
        ControlAuthority.open(tmp_path)


def test_public_root_signs_within_its_zones_only(tmp_path: Path, zone: ZoneConfig) -> None:
    public = PublicAuthority.open(tmp_path, [zone], PAGE)
    issued = public.issue("127.0.0.1")
    leaf = x509.load_pem_x509_certificates(issued.certificate_pem.encode())[0]
    verify_server(leaf.public_bytes(serialization.Encoding.PEM), public.ca_pem, "127.0.0.1")
    verify_with_openssl(leaf, public.ca_pem)
    for inside in ("203.0.113.100", "console.example.test", "*.consoles.example.test", "cloud.page.test"):
        chain = x509.load_pem_x509_certificates(public.issue(inside).certificate_pem.encode())
        verify_with_openssl(chain[0], public.ca_pem)
    for outside in (
        "198.51.100.1",
        "example.com",
        "notexample.test",
        "*.test",
        "*.notexample.test",
        "a.test",
    ):
        with pytest.raises(NotPermittedError, match="cannot sign for"):
            public.issue(outside)


def test_verifier_applies_the_public_roots_constraints(tmp_path: Path, zone: ZoneConfig) -> None:
    public = PublicAuthority.open(tmp_path, [zone], PAGE)
    key = ec.generate_private_key(ec.SECP256R1())
    for host in ("example.com", "198.51.100.1"):
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        stolen = public.authority.issue(
            key.public_key(), host, [name], ExtendedKeyUsageOID.SERVER_AUTH, timedelta(days=1)
        )
        with pytest.raises(VerificationError):
            verify_server(stolen.public_bytes(serialization.Encoding.PEM), public.ca_pem, host)


def test_cas_do_not_sign_for_each_other(tmp_path: Path, zone: ZoneConfig) -> None:
    control, public = ControlAuthority.open(tmp_path), PublicAuthority.open(tmp_path, [zone], PAGE)
    issued = public.issue("127.0.0.1").certificate_pem.encode()
    with pytest.raises(VerificationError):
        verify_server(issued, control.ca_pem, "127.0.0.1")
    with pytest.raises(VerificationError):
        verify_client(control.bootstrap("s-1-VM", Role.SSVM).certificate_pem, public.ca_pem)


def test_zone_with_another_domain_gets_another_public_root(tmp_path: Path, zone: ZoneConfig) -> None:
    first = PublicAuthority.open(tmp_path, [zone], PAGE).ca_pem
    assert PublicAuthority.open(tmp_path, [zone], PAGE).ca_pem == first
    assert PublicAuthority.open(tmp_path, [replace(zone, domain="other.test")], PAGE).ca_pem != first


def test_a_zone_that_the_api_adds_gets_a_new_root_and_the_earlier_one_stays_trusted(
    tmp_path: Path, zone: ZoneConfig
) -> None:
    zones = {"zone1": zone}
    public = PublicAuthority.open(tmp_path, zones.values(), PAGE)
    renewals: list[bytes] = []
    public.on_renewed = lambda: renewals.append(public.ca_pem)
    first, before = public.ca_pem, public.issue("127.0.0.1").certificate_pem.encode()
    with pytest.raises(NotPermittedError):
        public.issue("10.21.0.100")
    assert (public.ca_pem, renewals) == (first, [])
    # a zone without a public network, whose consoles are on its management network
    network = ipaddress.IPv4Network("10.21.0.0/24")
    management = replace(zone.networks.management, cidr=network, host_address=None, gateway=None, pool=None)
    without = replace(zone, name="zone2", networks=replace(zone.networks, management=management, public=None))
    zones["zone2"] = without
    chain = x509.load_pem_x509_certificates(public.issue("10.21.0.100").certificate_pem.encode())
    verify_with_openssl(chain[0], public.ca_pem)
    assert public.ca_pem != first
    assert renewals == [public.ca_pem]
    assert public.roots_pem == public.ca_pem + first
    # certificates of the earlier root are verified as before
    verify_server(before, public.roots_pem, "127.0.0.1")
    again = PublicAuthority.open(tmp_path, zones.values(), PAGE)
    assert (again.ca_pem, again.roots_pem) == (public.ca_pem, public.roots_pem)


def test_earlier_roots_are_kept_once_and_until_they_end(tmp_path: Path, zone: ZoneConfig) -> None:
    first = PublicAuthority.open(tmp_path, [zone], PAGE).ca_pem
    ended = CertificateAuthority.create("ended", now=lambda: datetime(2000, 1, 1, tzinfo=UTC))
    earlier = tmp_path / EARLIER
    earlier.write_bytes(first + ended.certificate_pem + first)
    other = replace(zone, domain="other.example.test")
    assert PublicAuthority.open(tmp_path, [other], PAGE).ca_pem != first
    assert earlier.read_bytes() == first


class LockThatBothReach:
    """A lock that is free when two threads ask for it."""

    def __init__(self) -> None:
        self._lock, self._both = Lock(), Barrier(2)

    def __enter__(self) -> None:
        self._both.wait()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_two_threads_make_one_root(tmp_path: Path, zone: ZoneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    zones = [zone]
    public = PublicAuthority.open(tmp_path, zones, PAGE)
    zones.append(replace(zone, name="zone2", domain="another.test"))
    renew, made = public._renew, []

    def counted(name: x509.GeneralName) -> CertificateAuthority | None:
        made.append(name)
        return renew(name)

    public._renew = counted
    monkeypatch.setattr(public, "_renewal", LockThatBothReach())

    def ask() -> None:
        assert public.permits("a.another.test")

    threads = [Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_daemons_identity_is_kept_for_two_thirds_of_its_life(control: ControlAuthority) -> None:
    source = DaemonIdentity(control, "h")
    assert source() is source()


def test_secret_is_decrypted_with_its_own_key_only(tmp_path: Path) -> None:
    seal = Seal.open_key(tmp_path)
    sealed = seal.close("secret")
    assert b"secret" not in sealed
    assert sealed != seal.close("secret")
    assert Seal.open_key(tmp_path).open(sealed) == "secret"
    (tmp_path / "seal.key").unlink()
    with pytest.raises(KeystoreError, match=r"seal\.key"):
        Seal.open_key(tmp_path).open(sealed)


def test_wildcard_gets_one_certificate_and_own_files_are_used(tmp_path: Path, zone: ZoneConfig) -> None:
    public = PublicAuthority.open(tmp_path, [zone], PAGE)
    advertised = PublicEndpoint.parse("https://*.consoles.example.test")
    endpoint = advertised.at(ip_address("203.0.113.100"))
    leaf = public.identity(endpoint, advertised).certificates()[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.consoles.example.test"]
    star = PublicEndpoint.parse("https://*:8443")
    leaf = public.identity(star.at(ip_address("203.0.113.100")), star).certificates()[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("203.0.113.100")]
    own = public.issue("console.example.test")
    (tmp_path / "own.crt").write_text(own.certificate_pem)
    (tmp_path / "own.key").write_text(own.private_key_pem)
    found = public.identity(endpoint, advertised, tmp_path / "own.crt", tmp_path / "own.key")
    assert found == evolve(own, source=IdentitySource.FILE)
