# SPDX-License-Identifier: Apache-2.0
"""TLS servers that must not be trusted, and handshakes that end or are changed at any byte."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.x509.oid import ExtendedKeyUsageOID

from integration.cpvm_lab.screen_tls import ANOTHER, ScreenCa, self_signed, server_context, vencrypt_server
from integration.cpvm_lab.vnc_server import SERVER_INIT, FakeVncServer, exactly
from integration.test_cpvm_targets import dial, refusal
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.wire.console import ConsoleTarget, TargetTls

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning"),
]

UNTRUSTED = BrowserRefusal.SCREEN_UNTRUSTED
UNENCRYPTED = BrowserRefusal.SCREEN_UNENCRYPTED
UNREACHABLE = BrowserRefusal.SCREEN_UNREACHABLE


@contextmanager
def served(context: ssl.SSLContext) -> Iterator[FakeVncServer]:
    def serve(screen: socket.socket) -> None:
        wrapped = vencrypt_server(screen, context)
        wrapped.recv(1)

    server = FakeVncServer(serve)
    try:
        yield server
    finally:
        server.close()


def target(server: FakeVncServer, tls: TargetTls) -> ConsoleTarget:
    return ConsoleTarget("127.0.0.1", server.port, None, vencrypt=tls)


def _tls_1_0(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1


def _anonymous(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")


def _without_forward_secrecy(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("NULL:@SECLEVEL=0")


def a_lax_client_connects(server: ssl.SSLContext) -> bool:
    """Perform a handshake in memory with a client that accepts anything."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    client.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
                ends.remove(end)
    return ends == []


@pytest_twisted.ensureDeferred
async def test_a_good_server_is_connected(tmp_path: Path) -> None:
    ca = ScreenCa()
    with served(server_context(tmp_path, *ca.issue())) as server:
        assert (await dial(target(server, TargetTls(ca.pem)))).server_init.width_px == 640


@pytest.mark.parametrize("age_days", [3])
@pytest_twisted.ensureDeferred
async def test_an_expired_certificate_is_refused(tmp_path: Path, age_days: int) -> None:
    ca = ScreenCa(timedelta(days=age_days))
    with served(server_context(tmp_path, *ca.issue())) as server:
        assert await refusal(target(server, TargetTls(ca.pem))) is UNTRUSTED


@pytest_twisted.ensureDeferred
async def test_another_name_use_or_issuer_is_refused(tmp_path: Path) -> None:
    ca = ScreenCa()
    for pair in (
        ca.issue(ANOTHER),
        ca.issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        ScreenCa().issue(),
        self_signed(),
    ):
        with served(server_context(tmp_path, *pair)) as server:
            assert await refusal(target(server, TargetTls(ca.pem))) is UNTRUSTED


@pytest.mark.parametrize("weaken", [_tls_1_0, _anonymous, _without_forward_secrecy])
@pytest_twisted.ensureDeferred
async def test_weak_tls_is_refused(tmp_path: Path, weaken: Callable[[ssl.SSLContext], None]) -> None:
    ca = ScreenCa()
    context = server_context(tmp_path, *ca.issue())
    weaken(context)
    assert a_lax_client_connects(context), "the server itself works"
    with served(context) as server:
        assert await refusal(target(server, TargetTls(ca.pem))) in (UNENCRYPTED, UNREACHABLE)


@pytest_twisted.ensureDeferred
async def test_a_fingerprint_replaces_a_ca(tmp_path: Path) -> None:
    import hashlib

    certificate, key = self_signed()
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    with served(server_context(tmp_path, certificate, key)) as server:
        for name in ("sha256", "sha1"):
            found = hashlib.new(name, der).hexdigest().upper()
            colons = ":".join(found[at : at + 2] for at in range(0, len(found), 2))
            for text in (found, colons):
                connection = await dial(target(server, TargetTls(fingerprint=text)))
                connection.stream.close()
            changed = "0" + found[1:] if found[0] != "0" else "1" + found[1:]
            assert await refusal(target(server, TargetTls(fingerprint=changed))) is UNTRUSTED
        for malformed in ("00", "x" * 64, hashlib.md5(der, usedforsecurity=False).hexdigest()):
            assert await refusal(target(server, TargetTls(fingerprint=malformed))) is UNTRUSTED


class CuttingProxy:
    """Passes bytes to a VNC server, and back until a position; there it ends, or changes one byte."""

    def __init__(self, port: int, at: int, change: bool) -> None:
        self.passed = 0

        def serve(client: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                forward = threading.Thread(target=self._forward, args=(client, server), daemon=True)
                forward.start()
                while data := server.recv(4096):
                    position = at - self.passed
                    self.passed += len(data)
                    if 0 <= position < len(data):
                        if not change:
                            client.sendall(data[:position])
                            break
                        data = data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :]
                    client.sendall(data)
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

        self._server = FakeVncServer(serve)
        self.port = self._server.port

    @staticmethod
    def _forward(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(4096):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


async def _bytes_of_handshake(server: FakeVncServer, tls: TargetTls) -> int:
    proxy = CuttingProxy(server.port, 1 << 30, False)
    connection = await dial(ConsoleTarget("127.0.0.1", proxy.port, None, vencrypt=tls))
    connection.stream.close()
    proxy.close()
    return proxy.passed


#: Version, security types, VeNCrypt's version and its acknowledgement, subtypes, acknowledgement.
_BEFORE_TLS = 12 + 2 + 2 + 1 + 5 + 1
_VENCRYPT_VERSION = (14, 15)


@pytest.mark.parametrize("change", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_cut_or_changed_anywhere_is_refused(tmp_path: Path, change: bool) -> None:
    ca = ScreenCa()
    tls = TargetTls(ca.pem)
    with served(server_context(tmp_path, *ca.issue())) as server:
        # signatures differ by a few bytes from one handshake to another
        total = await _bytes_of_handshake(server, tls) - 16
        for at in [*range(_BEFORE_TLS), *range(_BEFORE_TLS, total, 31)]:
            if change and at in _VENCRYPT_VERSION:
                continue  # a later version speaks 0.2, too
            proxy = CuttingProxy(server.port, at, change)
            cut = ConsoleTarget("127.0.0.1", proxy.port, None, vencrypt=tls)
            # a changed length lets both ends wait for bytes that do not come
            refused = await refusal(cut, deadline_s=0.5 if change else 30)
            proxy.close()
            if not change:
                assert refused is UNREACHABLE, at


@pytest_twisted.ensureDeferred
async def test_a_server_that_requires_a_client_certificate_is_an_error(tmp_path: Path) -> None:
    """TLS 1.3 refuses after the client has finished: the refusal is no broken protocol."""
    ca = ScreenCa()
    context = server_context(tmp_path, *ca.issue())
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca.pem)
    with served(context) as server:
        assert await refusal(target(server, TargetTls(ca.pem))) in (UNENCRYPTED, UNREACHABLE)


@pytest_twisted.ensureDeferred
async def test_clear_text_instead_of_tls_is_refused() -> None:
    def serve(screen: socket.socket) -> None:
        screen.sendall(b"RFB 003.008\n")
        exactly(screen, 12)
        screen.sendall(b"\x01\x13")
        exactly(screen, 1)
        screen.sendall(b"\0\x02")
        exactly(screen, 2)
        screen.sendall(b"\0\x01\0\0\x01\x04")
        exactly(screen, 4)
        # the answer, and what would follow if there were no TLS
        screen.sendall(b"\x01" + bytes(4) + SERVER_INIT)
        screen.recv(1)

    server = FakeVncServer(serve)
    refused = await refusal(target(server, TargetTls(ScreenCa().pem)))
    server.close()
    assert refused in (BrowserRefusal.SCREEN_FAULTY, UNENCRYPTED)
