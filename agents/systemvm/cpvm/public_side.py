# SPDX-License-Identifier: Apache-2.0
"""How browsers reach this console server: its address, its certificate, and the proxies before it."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime

from twisted.logger import Logger

from systemvm.web.certificate import CertificateError, expiry_unix_s, server_context
from systemvm.web.forwarded import Network, holds_proxy, networks
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.console import ConsoleSetup


class PublicSide:
    """What the daemon has set; nothing before its first setup."""

    log = Logger()

    def __init__(self) -> None:
        self.endpoint: PublicEndpoint | None = None
        self.url = ""  # of the endpoint: one string, which all connections share
        self.trusted_proxies: list[Network] = []
        self._context: ssl.SSLContext | None = None
        self._digest = b""
        self.expires_unix_s: float | None = None

    def use(self, setup: ConsoleSetup) -> bool:
        """Use this certificate and address from the next handshake on; return False when nothing changed.

        Raises: CertificateError or ValueError when the setup is unusable; the previous one stays in use.
        """
        parts = (setup.origin, setup.certificate_pem, setup.private_key_pem, str(setup.bind_address))
        text = "\0".join((*parts, *setup.trusted_proxies))
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        if digest == self._digest:
            return False
        endpoint = PublicEndpoint.parse(setup.origin)
        if endpoint.scheme != "https" or endpoint.is_wildcard:
            raise ValueError(f"console origin must be https://HOST[:PORT][/PATH]: {setup.origin!r}")
        proxies = networks(setup.trusted_proxies)
        context = server_context(
            setup.certificate_pem, setup.private_key_pem, host=endpoint.host, now=datetime.now(UTC)
        )
        self.endpoint, self._context, self._digest = endpoint, context, digest
        self.url = endpoint.url
        self.trusted_proxies = proxies
        self.expires_unix_s = expiry_unix_s(setup.certificate_pem)
        self.log.info("serving consoles at {url}", url=endpoint.url)
        return True

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of the next connection.

        Raises: CertificateError before the first setup.
        """
        if self._context is None:
            raise CertificateError("console has no certificate: console.setup was not called")
        return self._context

    def is_proxy(self, source: str) -> bool:
        """Return whether `source` is a configured proxy, whose connections come from many browsers."""
        return holds_proxy(source, self.trusted_proxies)
