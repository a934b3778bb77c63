# SPDX-License-Identifier: Apache-2.0
"""OpenSSL contexts for mutual TLS 1.3 on the control channel.

OpenSSL checks the chain; `peer_certificate` checks name, role and extended key usage after the handshake. The
contexts use no Python callback, because a callback needs memory that is both writable and executable, which
the agents' units forbid. There is no resumption: a certificate counts at every connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from systemvm.rpc.core.call import Caller
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import check_agent, check_daemon


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class TlsOptions:
    """One identity's OpenSSL context, for either side of a connection."""

    def __init__(self, identity: Identity, check: Callable[[x509.Certificate], Caller]) -> None:
        self.identity = identity
        self.check = check  # returns the identity of the other end, or raises IdentityRefused
        self._context = _context(identity)

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def agent_options(identity: Identity) -> TlsOptions:
    """Return the options of an agent: the other end must be a daemon."""
    return TlsOptions(identity, check_daemon)


def daemon_options(identity: Identity) -> TlsOptions:
    """Return the options of a daemon: the other end must be an agent."""
    return TlsOptions(identity, check_agent)


def _context(identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(os.urandom(16))
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    try:
        # Any: the installed stubs are older than pyOpenSSL, which needs objects of cryptography
        private_key: Any = load_pem_private_key(identity.private_key_pem, None)
        certificate: Any = x509.load_pem_x509_certificate(identity.certificate_pem)
        context.use_privatekey(private_key)
        context.use_certificate(certificate)
        context.check_privatekey()
        store = context.get_cert_store()
        authorities = identity.ca_certificates_pem()
        for pem in authorities:
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, pem))
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        text = f"identity is unusable ({type(error).__name__}): key, certificate and CA must match"
        raise ValueError(text) from None
    if not authorities:
        raise ValueError("identity is unusable: it has no CA")
    return context
