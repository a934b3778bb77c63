# SPDX-License-Identifier: Apache-2.0
"""Challenges of ACME that the console's listener answers, by the name that a handshake asks for."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from systemvm.web.certificate import ACME_ALPN, challenge_context
from systemvm.wire.console import AcmeChallenge

#: A daemon that went away withdraws nothing.
LIFETIME_S = 900.0
_ALPN = bytes([len(ACME_ALPN)]) + ACME_ALPN.encode("ascii")


class Challenges:
    """The pending ones; browsers are not affected, because only ACME servers offer its protocol."""

    def __init__(self, pending: Sequence[AcmeChallenge]) -> None:
        """Raises: CertificateError when certificate and key do not fit."""
        self._contexts = {
            each.host.encode("ascii"): challenge_context(each.certificate_pem, each.private_key_pem)
            for each in pending
        }

    def find(self, hello: bytes) -> ssl.SSLContext | None:
        """Return the context for the first bytes of a connection; None for all but ACME's."""
        if _ALPN not in hello:
            return None
        hello = hello.lower()
        return next((context for host, context in self._contexts.items() if host in hello), None)
