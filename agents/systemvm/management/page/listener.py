# SPDX-License-Identifier: Apache-2.0
"""The page's listener, and its certificate when the daemon terminates TLS."""

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
from systemvm.management.pki.public import NotPermittedError, PublicAuthority, PublicIdentity
from systemvm.rpc.stream.transport import Reactor
from systemvm.web.forwarded import holds_proxy, networks
from systemvm.web.public_endpoint import PublicEndpoint


@implementer(IOpenSSLServerConnectionCreator)
class PageCertificate:
    """The page's certificate, which can be replaced while browsers are connected, but only by a valid one."""

    _log = Logger()

    def __init__(self, page: PageConfig, public: PublicAuthority) -> None:
        """Load the certificate.

        Raises: ConfigError when it cannot be used.
        """
        self._page = page
        self._public = public
        self.failure = ""  # why the last renewal failed
        try:
            self._context = self._load()
        except (OSError, ValueError, NotPermittedError) as error:
            raise ConfigError(f"page: cannot use the certificate for {page.origin}: {error}") from error

    @property
    def endpoint(self) -> PublicEndpoint:
        return self._page.endpoint

    @property
    def identity(self) -> PublicIdentity:
        """The one in use."""
        return self._identity

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def renew(self) -> None:
        """Load the certificate again; when that fails, log an error and keep the last one."""
        try:
            self._context = self._load()
            self.failure = ""
        except (OSError, ValueError, NotPermittedError) as error:
            self.failure = str(error)
            self._log.error(
                "cannot renew the page's certificate, the last one stays in use: {error}", error=str(error)
            )

    def _load(self) -> SSL.Context:
        page = self._page
        identity = self._public.identity(page.endpoint, None, page.certificate_file, page.key_file)
        try:
            leaf, *chain = [crypto.X509.from_cryptography(found) for found in identity.certificates()]
            # TypeError for an encrypted key: a daemon cannot ask for a passphrase
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
            raise ValueError(f"invalid private key, or not the certificate's: {error}") from None
        self._identity = identity
        return context


async def listen(
    reactor: Reactor, page: PageConfig, site: IProtocolFactory, certificate: PageCertificate | None
) -> IListeningPort:
    """Serve `site` at `page.listen`.

    Raises: ConfigError when `page.listen` cannot be used.
    """
    if certificate is not None:
        site = TLSMemoryBIOFactory(certificate, False, site)
    proxies = networks(page.trusted_proxies)
    site = BoundedListener(site, lambda source: holds_proxy(source, proxies))
    try:
        endpoint = serverFromString(reactor, page.listen)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"page.listen: cannot listen at {page.listen}: {error}; "
            "without an inherited socket write tcp:8080:interface=127.0.0.1"
        ) from error
    port: IListeningPort = await endpoint.listen(site)
    return port
