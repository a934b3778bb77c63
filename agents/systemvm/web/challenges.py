# SPDX-License-Identifier: Apache-2.0
"""Challenges of ACME that a public listener answers, by the name that a handshake asks for."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from systemvm.web.certificate import ACME_ALPN, challenge_context
from systemvm.wire.acme import CHALLENGE_LIFETIME_S, AcmeChallenge

_ALPN = bytes([len(ACME_ALPN)]) + ACME_ALPN.encode("ascii")

#: Returns the context for the first bytes of a connection; None for all but ACME's.
FindContext = Callable[[bytes], ssl.SSLContext | None]


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


class PendingChallenges:
    """Gives a listener the challenges of the daemon, and takes them away when it forgets them."""

    def __init__(self, reactor: Any, use: Callable[[FindContext | None], None]) -> None:
        self._reactor = reactor
        self._use = use
        self._end: IDelayedCall | None = None

    def replace(self, pending: Sequence[AcmeChallenge]) -> None:
        """Answer these and no others.

        Raises: CertificateError when certificate and key of one do not fit; the ones before stay.
        """
        find = Challenges(pending).find
        self.stop()
        self._use(find if pending else None)
        if pending:
            self._end = self._reactor.callLater(CHALLENGE_LIFETIME_S, self._use, None)

    def stop(self) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
