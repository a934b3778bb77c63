# SPDX-License-Identifier: Apache-2.0
"""Certificates of hypervisors, good and bad, and a VNC server of our own that speaks VeNCrypt's X509Vnc."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from integration.cpvm_lab.vnc_server import SERVER_INIT, exactly
from systemvm.management.pki.authority import CertificateAuthority, utc_now
from systemvm.management.pki.keystore import key_to_pem, new_key

LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))
ANOTHER = x509.IPAddress(ip_address("127.0.0.2"))


class ScreenCa:
    """A CA of hypervisors; `age` lets it have begun earlier, so that what it issues can have expired."""

    def __init__(self, age: timedelta = timedelta()) -> None:
        self._authority = CertificateAuthority.create("hypervisors", now=lambda: utc_now() - age)

    @property
    def pem(self) -> str:
        return self._authority.certificate_pem.decode()

    def issue(
        self, *names: x509.GeneralName, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
    ) -> tuple[bytes, bytes]:
        """Return certificate and key for the names, valid for a day."""
        key = new_key()
        certificate = self._authority.issue(
            key.public_key(), "host-1", names or [LOOPBACK], usage, timedelta(days=1)
        )
        return certificate.public_bytes(Encoding.PEM), key_to_pem(key)

    def directory(self, path: Path, *names: x509.GeneralName) -> Path:
        """Write the files of QEMU's tls-creds-x509."""
        path.mkdir(exist_ok=True)
        certificate, key = self.issue(*names)
        (path / "ca-cert.pem").write_text(self.pem)
        (path / "server-cert.pem").write_bytes(certificate)
        (path / "server-key.pem").write_bytes(key)
        return path


def self_signed() -> tuple[bytes, bytes]:
    """Return a certificate for 127.0.0.1 that is its own issuer, and its key."""
    key = new_key()
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(hours=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([LOOPBACK]), critical=True)
    )
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), key_to_pem(key)


def server_context(folder: Path, certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Return a context of a server that accepts any version and cipher that OpenSSL still has."""
    (folder / "peer.crt").write_bytes(certificate)
    (folder / "peer.key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(folder / "peer.crt", folder / "peer.key")
    return context


def vencrypt_server(screen: socket.socket, context: ssl.SSLContext, subtype: int = 260) -> ssl.SSLSocket:
    """Perform the server's side of RFB 3.8 with VeNCrypt's X509None; return the TLS connection."""
    screen.sendall(b"RFB 003.008\n")
    exactly(screen, 12)
    screen.sendall(b"\x01\x13")
    exactly(screen, 1)
    screen.sendall(b"\0\x02")
    exactly(screen, 2)
    screen.sendall(b"\0\x01" + subtype.to_bytes(4, "big"))
    exactly(screen, 4)
    screen.sendall(b"\x01")
    wrapped = context.wrap_socket(screen, server_side=True)
    wrapped.sendall(bytes(4))
    exactly(wrapped, 1)
    wrapped.sendall(SERVER_INIT)
    return wrapped
