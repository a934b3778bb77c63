# SPDX-License-Identifier: Apache-2.0
"""Which handshakes are answered as ACME's, and which as a browser's."""

from __future__ import annotations

import ssl

import pytest

from public_pki import DOMAIN, server
from systemvm.web.certificate import CertificateError
from systemvm.web.challenges import Challenges
from systemvm.wire.acme import AcmeChallenge

PROOF = server(DOMAIN)
PENDING = [AcmeChallenge(DOMAIN, PROOF.pem, PROOF.key_pem)]


def hello(name: str, *protocols: str) -> bytes:
    """Return the first bytes that a client sends."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_only_acmes_protocol_and_a_pending_name_get_the_challenge() -> None:
    challenges = Challenges(PENDING)
    assert challenges.find(hello(DOMAIN, "acme-tls/1")) is not None
    assert challenges.find(hello(DOMAIN.upper(), "acme-tls/1")) is not None
    for other in (
        hello(DOMAIN, "h2", "http/1.1"),
        hello(DOMAIN),
        hello("other.example.test", "acme-tls/1"),
        b"GET / HTTP/1.1\r\n",
        b"",
    ):
        assert challenges.find(other) is None
    assert Challenges([]).find(hello(DOMAIN, "acme-tls/1")) is None


def test_a_challenge_with_another_key_is_refused() -> None:
    with pytest.raises(CertificateError):
        Challenges([AcmeChallenge(DOMAIN, PROOF.pem, server().key_pem)])
