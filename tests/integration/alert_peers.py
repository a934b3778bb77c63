# SPDX-License-Identifier: Apache-2.0
"""Servers that alerts go to: Twisted's mail server with STARTTLS and logins, and an HTTPS server."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import trustme
from attrs import define, field
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.mail import imap4, smtp
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

USERNAME, PASSWORD = b"cloud", b"opensesame"


@define
class Received:
    """What a mail server took, and what it refuses."""

    mails: list[tuple[list[str], str]] = field(factory=list)  # recipients and text
    refused: str = ""  # a recipient
    secure: list[bool] = field(factory=list)  # whether each message came by TLS
    answers_quit: bool = True  # False: the connection ends instead


@implementer(smtp.IMessage)
class _Message:
    def __init__(self, done: Callable[[str], None]) -> None:
        self._lines: list[str] = []
        self._done = done

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line.decode())

    def eomReceived(self) -> Deferred[None]:
        self._done("\n".join(self._lines))
        return succeed(None)

    def connectionLost(self) -> None:
        """It was cut off: nothing is kept."""


@implementer(smtp.IMessageDelivery)
class _Mailbox:
    def __init__(self, received: Received, is_secure: Callable[[], bool]) -> None:
        self._received, self._is_secure = received, is_secure
        self._recipients: list[str] = []

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: by a test"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Callable[[], _Message]:
        address = str(user.dest)
        if address == self._received.refused:
            raise smtp.SMTPBadRcpt(user)
        self._recipients.append(address)
        return lambda: _Message(self._done)

    def _done(self, text: str) -> None:
        recipients, self._recipients = self._recipients, []
        if recipients:  # a message for several is handed over once for each
            self._received.mails.append((recipients, text))
            self._received.secure.append(self._is_secure())


class _MailServer(smtp.SMTPFactory):
    def __init__(self, received: Received, tls: CertificateOptions | None, logs_in: bool) -> None:
        self._received, self._tls, self._logs_in = received, tls, logs_in

    def buildProtocol(self, address: Any) -> Any:
        challengers = {b"PLAIN": imap4.PLAINCredentials} if self._logs_in else {}
        protocol: Any = smtp.ESMTP(challengers, self._tls)
        if not self._received.answers_quit:
            protocol.do_QUIT = lambda rest: protocol.transport.loseConnection()
        protocol.host = b"mail.example.test"
        mailbox = _Mailbox(self._received, lambda: bool(protocol.startedTLS))
        if self._logs_in:
            checker = InMemoryUsernamePasswordDatabaseDontUse(**{USERNAME.decode(): PASSWORD})
            protocol.portal = Portal(_Realm(mailbox), [checker])
        else:
            protocol.delivery = mailbox
        return protocol


@implementer(IRealm)
class _Realm:
    def __init__(self, mailbox: _Mailbox) -> None:
        self._mailbox = mailbox

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: Any, *interfaces: Any) -> Any:
        return smtp.IMessageDelivery, self._mailbox, lambda: None


@define
class Hooks(Resource):
    """Takes posts, and answers each with `status`."""

    isLeaf = True
    posts: list[tuple[str, bytes, dict[str, str]]] = field(factory=list)
    status: int = 200

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)

    def render(self, request: Request) -> bytes:
        assert request.content is not None
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.posts.append((request.uri.decode(), request.content.read(), headers))
        request.setResponseCode(self.status)
        if self.status == 302:
            request.setHeader(b"Location", b"https://elsewhere.example.test/")
        return b""


@define
class Authority:
    """A CA that clients trust, and a certificate for the name localhost."""

    ca: trustme.CA = field(factory=trustme.CA)

    def options(self) -> CertificateOptions:
        issued = self.ca.issue_cert("localhost")
        pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
        return cast(CertificateOptions, PrivateCertificate.loadPEM(pem).options())

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@contextmanager
def listening(factory: Any, tls: CertificateOptions | None = None) -> Iterator[int]:
    """Serve on a port of loopback that the kernel chooses; yield it."""
    from twisted.internet import reactor

    core = cast(Any, reactor)
    port = (
        core.listenTCP(0, factory, interface="127.0.0.1")
        if tls is None
        else core.listenSSL(0, factory, tls, interface="127.0.0.1")
    )
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


def mail_server(
    received: Received, tls: CertificateOptions | None, *, logs_in: bool = False
) -> smtp.SMTPFactory:
    return _MailServer(received, tls, logs_in)


def https_server(hooks: Hooks) -> Site:
    return Site(hooks)
