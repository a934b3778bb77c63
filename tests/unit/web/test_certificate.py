# SPDX-License-Identifier: Apache-2.0
"""Checks of a console certificate before it replaces the current one."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from systemvm.cpvm.public_side import PublicSide
from systemvm.web.certificate import CertificateError, server_context
from systemvm.web.expiry_metric import expiry_metrics
from systemvm.wire.console import ConsoleSetup

NOW = datetime.now(UTC)
AUTHORITY = trustme.CA()


def pems(*names: str, starts: datetime | None = None, ends: datetime | None = None) -> tuple[str, str]:
    issued = AUTHORITY.issue_cert(*names, not_before=starts, not_after=ends)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return chain.decode(), issued.private_key_pem.bytes().decode()


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["127.0.0.1"], "127.0.0.1"),
        (["console.example"], "console.example"),
        (["*.example.test"], "203-0-113-9.example.test"),
        (["2001:db8::1"], "2001:db8::1"),
        (["a.example", "127.0.0.1"], "127.0.0.1"),
    ],
)
def test_a_certificate_for_the_host_is_accepted(names: list[str], host: str) -> None:
    context = server_context(*pems(*names), host=host, now=NOW)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["127.0.0.1"], "127.0.0.2"),
        (["console.example"], "example"),
        (["*.example.test"], "a.b.example.test"),
        (["*.example.test"], "example.test"),
    ],
)
def test_a_certificate_for_another_host_is_refused(names: list[str], host: str) -> None:
    with pytest.raises(CertificateError, match="is not valid for"):
        server_context(*pems(*names), host=host, now=NOW)


def test_a_key_of_another_certificate_is_refused() -> None:
    certificate, _ = pems("127.0.0.1")
    _, key = pems("127.0.0.1")
    with pytest.raises(CertificateError, match="private key"):
        server_context(certificate, key, host="127.0.0.1", now=NOW)


def test_unparsable_key_and_certificate_are_refused() -> None:
    certificate, key = pems("127.0.0.1")
    with pytest.raises(CertificateError, match="private key"):
        server_context(certificate, "", host="127.0.0.1", now=NOW)
    with pytest.raises(CertificateError, match="does not contain a PEM"):
        server_context("x", key, host="127.0.0.1", now=NOW)


@pytest.mark.parametrize("days", [-2, 2])
def test_an_expired_or_future_certificate_is_refused(days: int) -> None:
    certificate, key = pems("127.0.0.1", starts=NOW - timedelta(days=1), ends=NOW + timedelta(days=1))
    server_context(certificate, key, host="127.0.0.1", now=NOW)
    with pytest.raises(CertificateError, match="valid") as raised:
        server_context(certificate, key, host="127.0.0.1", now=NOW + timedelta(days=days))
    assert "PRIVATE" not in str(raised.value)


def test_no_file_descriptor_stays_open() -> None:
    from pathlib import Path

    before = len(list(Path("/proc/self/fd").iterdir()))
    server_context(*pems("127.0.0.1"), host="127.0.0.1", now=NOW)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def server_hello_group(context: ssl.SSLContext) -> int:
    """Return the group of a TLS 1.3 handshake with a client of this OpenSSL: of ServerHello's key_share."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    client = trusting.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
    # record header, handshake header, version, random, session id, cipher, compression (RFC 8446 4.1.3)
    hello = to_client.read()[5 + 4 + 2 + 32 :]
    extensions = hello[1 + hello[0] + 2 + 1 + 2 :]
    while True:
        kind, size = int.from_bytes(extensions[:2]), int.from_bytes(extensions[2:4])
        if kind == 51:
            return int.from_bytes(extensions[4:6])
        extensions = extensions[4 + size :]


def test_key_exchange_is_the_hybrid_where_openssl_has_it() -> None:
    """X25519MLKEM768 (0x11ec) with OpenSSL 3.5, that of the images, and X25519 (0x1d) before."""
    expected = 0x11EC if ssl.OPENSSL_VERSION_INFO >= (3, 5) else 0x1D
    context = server_context(*pems("127.0.0.1"), host="127.0.0.1", now=NOW)
    assert server_hello_group(context) == expected


def test_the_end_of_a_chain_is_a_metric() -> None:
    ends = (NOW + timedelta(days=7)).replace(microsecond=0)
    certificate, key = pems("a.example", starts=NOW - timedelta(days=1), ends=ends)
    public = PublicSide()
    assert expiry_metrics(public.expires_unix_s) == []
    public.use(ConsoleSetup("https://a.example", certificate, key))
    [metric] = expiry_metrics(public.expires_unix_s)
    assert metric.name == "systemvm_public_certificate_expiry_timestamp_seconds"
    assert metric.values == {"": ends.timestamp()}
    with pytest.raises(CertificateError):
        public.use(ConsoleSetup("https://b.example", *pems("a.example")))
    assert public.expires_unix_s == ends.timestamp(), "the one before stays in use"
