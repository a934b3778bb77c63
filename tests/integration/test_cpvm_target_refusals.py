# SPDX-License-Identifier: Apache-2.0
"""Every kind of TLS target with every fault of its certificate: refused, and before a secret is sent.

test_cpvm_target_tls.py has VeNCrypt's own faults; XAPI and ESXi are protocol peers (hypervisor_peers.py).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from integration.cpvm_lab.hypervisor_peers import EsxiPeer, Greeting, XapiPeer, vencrypt_greeting
from integration.cpvm_lab.screen_tls import ANOTHER, LOOPBACK, server_context
from integration.cpvm_lab.vnc_server import FakeVncServer
from integration.test_cpvm_target_tls import a_lax_client_connects
from integration.test_cpvm_targets import dial, refusal
from public_pki import NOW, Issued, issue
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.wire.console import ConsoleTarget, TargetTls, TargetTransport

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning"),
]

ROOT, STRANGER = issue("hypervisors", None, is_ca=True), issue("strangers", None, is_ca=True)
BETWEEN = issue("between", ROOT, is_ca=True)
DAY = timedelta(days=1)
UNTRUSTED = BrowserRefusal.SCREEN_UNTRUSTED
UNPROTECTED = (BrowserRefusal.SCREEN_UNENCRYPTED, BrowserRefusal.SCREEN_UNREACHABLE)


def leaf(
    issuer: Issued | None = ROOT,
    name: x509.GeneralName = LOOPBACK,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    **how: object,
) -> Issued:
    def build(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        names = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        return names.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)

    return issue("host-1", issuer, build=build, **how)  # type: ignore[arg-type]


CERTIFICATES: dict[str, Callable[[], Issued]] = {
    "of another CA": lambda: leaf(STRANGER),
    "self-signed": lambda: leaf(None),
    "for another address": lambda: leaf(name=ANOTHER),
    "for a name that looks like the address": lambda: leaf(name=x509.DNSName("127.0.0.1")),
    "expired": lambda: leaf(starts=NOW - 3 * DAY, ends=NOW - DAY),
    "not valid yet": lambda: leaf(starts=NOW + DAY),
    "for clients": lambda: leaf(usage=ExtendedKeyUsageOID.CLIENT_AUTH),
    "without what is between": lambda: leaf(BETWEEN),
    "of a leaf": lambda: leaf(leaf()),
    "with a short key": lambda: leaf(key=rsa.generate_private_key(65537, 1024)),
}


def _only(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], None]:
    def weaken(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    return weaken


def _ciphers(text: str) -> Callable[[ssl.SSLContext], None]:
    def weaken(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{text}:@SECLEVEL=0")

    return weaken


PROTOCOLS: dict[str, Callable[[ssl.SSLContext], None]] = {
    "TLS 1.0": _only(ssl.TLSVersion.TLSv1),
    "TLS 1.1": _only(ssl.TLSVersion.TLSv1_1),
    "anonymous": _ciphers("aNULL"),
    "unencrypted": _ciphers("eNULL"),
}


@frozen
class Kind:
    """A kind of target; `seen` is what its server has received behind TLS."""

    greet: Greeting
    transport: TargetTransport = TargetTransport.TCP
    path: str = ""
    session_id: str | None = None
    seen: list[str] = field(factory=list)

    def serve(self, connection: socket.socket) -> None:
        self.greet(connection)

    def target(self, port: int) -> ConsoleTarget:
        tls = TargetTls(ROOT.pem)
        if self.transport is TargetTransport.TCP:
            return ConsoleTarget("127.0.0.1", port, None, vencrypt=tls)
        return ConsoleTarget(
            "127.0.0.1", port, None, self.transport, self.path, self.session_id, transport_tls=tls
        )


def kind_of(name: str, context: ssl.SSLContext) -> Kind:
    if name == "xapi":
        xapi = XapiPeer(context)
        transport = TargetTransport.HTTP_CONNECT
        return Kind(xapi.greet, transport, XapiPeer.PATH, XapiPeer.SESSION_ID, xapi.seen)
    if name == "esxi":
        esxi = EsxiPeer(context)
        return Kind(esxi.greet, TargetTransport.WEBSOCKET, EsxiPeer.PATH, None, esxi.seen)
    return Kind(vencrypt_greeting(context))


async def refused(kind: Kind) -> BrowserRefusal:
    server = FakeVncServer(kind.serve)
    try:
        return await refusal(kind.target(server.port))
    finally:
        server.close()


def context_of(issued: Issued, folder: Path) -> ssl.SSLContext:
    return server_context(folder, issued.pem.encode(), issued.key_pem.encode())


@pytest.mark.parametrize("name", ["vencrypt", "xapi", "esxi"])
@pytest_twisted.ensureDeferred
async def test_a_good_certificate_is_taken(tmp_path: Path, name: str) -> None:
    kind = kind_of(name, context_of(leaf(), tmp_path))
    server = FakeVncServer(kind.serve)
    connection = await dial(kind.target(server.port))
    assert connection.server_init.width_px == 640
    connection.stream.close()
    server.close()


@pytest.mark.parametrize("name", ["vencrypt", "xapi", "esxi"])
@pytest.mark.parametrize("fault", CERTIFICATES)
@pytest_twisted.ensureDeferred
async def test_a_bad_certificate_is_refused_before_a_secret_is_sent(
    tmp_path: Path, name: str, fault: str
) -> None:
    kind = kind_of(name, context_of(CERTIFICATES[fault](), tmp_path))
    assert await refused(kind) is UNTRUSTED
    assert kind.seen == []


@pytest.mark.parametrize("name", ["vencrypt", "xapi", "esxi"])
@pytest.mark.parametrize("fault", PROTOCOLS)
@pytest_twisted.ensureDeferred
async def test_weak_tls_is_refused_before_a_secret_is_sent(tmp_path: Path, name: str, fault: str) -> None:
    context = context_of(leaf(), tmp_path)
    PROTOCOLS[fault](context)
    assert a_lax_client_connects(context), "the server itself works"
    kind = kind_of(name, context)
    assert await refused(kind) in UNPROTECTED
    assert kind.seen == []


@pytest.mark.parametrize("name", ["xapi", "esxi"])
@pytest_twisted.ensureDeferred
async def test_clear_text_is_refused_where_tls_is_set(tmp_path: Path, name: str) -> None:
    kind = kind_of(name, context_of(leaf(), tmp_path))
    server = FakeVncServer(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nRFB 003.008\n"))
    assert await refusal(kind.target(server.port)) in UNPROTECTED
    server.close()
