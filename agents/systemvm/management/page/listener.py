# SPDX-License-Identifier: Apache-2.0
"""Where browsers reach the daemon: the page's listener, and its certificate when the daemon ends TLS."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from systemvm.host.config_file import ConfigError
from systemvm.management.config import PageConfig
from systemvm.management.page.bounded_listener import BoundedListener
from systemvm.management.pki.public import NotPermittedError, PublicAuthority
from systemvm.rpc.stream.transport import Reactor
from systemvm.web.forwarded import holds_proxy, networks


@implementer(IOpenSSLServerConnectionCreator)
class PageCertificate:
    """The certificate of the page: replaced while browsers are connected, and only by one that can serve."""

    _log = Logger()

    def __init__(self, page: PageConfig, public: PublicAuthority) -> None:
        """ConfigError when there is nothing to serve with."""
        self._page = page
        self._public = public
        try:
            self._context = self._load()
        except (OSError, ValueError, NotPermittedError) as error:
            raise ConfigError(f"page: the certificate for {page.origin} cannot be used: {error}") from error

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def renew(self) -> None:
        """Take a fresh one from the next handshake on; what cannot serve is said, the last one stays."""
        try:
            self._context = self._load()
        except (OSError, ValueError, NotPermittedError) as error:
            self._log.error("the page keeps its last certificate: {error}", error=str(error))

    def _load(self) -> SSL.Context:
        page = self._page
        identity = self._public.identity(page.endpoint, None, page.certificate_file, page.key_file)
        try:
            leaf, *chain = [crypto.X509.from_cryptography(found) for found in identity.certificates()]
            # TypeError for an encrypted one: nobody is there to be asked for its passphrase
            key = crypto.PKey.from_cryptography_key(
                serialization.load_pem_private_key(identity.private_key_pem.encode(), None)  # type: ignore[arg-type]
            )
            options = CertificateOptions(
                privateKey=key,
                certificate=leaf,
                extraCertChain=chain,
                insecurelyLowerMinimumTo=TLSVersion.TLSv1_2,
            )
            context: SSL.Context = options.getContext()
            context.check_privatekey()
        except (crypto.Error, SSL.Error, TypeError) as error:
            raise ValueError(f"the key is not one, or not the certificate's: {error}") from None
        return context


async def listen(
    reactor: Reactor, page: PageConfig, site: IProtocolFactory, certificate: PageCertificate | None
) -> IListeningPort:
    """Serve `site` where `page.listen` says; ConfigError for a place that cannot be used."""
    if certificate is not None:
        site = TLSMemoryBIOFactory(certificate, False, site)
    proxies = networks(page.trusted_proxies)
    site = BoundedListener(site, lambda source: holds_proxy(source, proxies))
    try:
        endpoint = serverFromString(reactor, page.listen)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"page.listen: {page.listen} cannot be used: {error}; "
            "without an inherited socket write tcp:8080:interface=127.0.0.1"
        ) from error
    port: IListeningPort = await endpoint.listen(site)
    return port
