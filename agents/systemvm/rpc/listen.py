# SPDX-License-Identifier: Apache-2.0
"""Where agents come in: a TLS listener that turns each accepted certificate into a `Peer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from systemvm.rpc.method import Caller, MethodTable
from systemvm.rpc.peer import Peer
from systemvm.rpc.refusal import Refusal
from systemvm.rpc.secure_transport import SecureStreamProtocol
from systemvm.rpc.tls import Identity, TlsOptions, daemon_options
from systemvm.rpc.transport import Reactor

MAX_UNSETTLED = 256  # connections whose handshake is not done
BACKLOG = 1024  # all agents of a host dial at once when its daemon was started anew

_log = Logger()


def listen(
    reactor: Reactor,
    identity_source: Callable[[], Identity],
    methods: MethodTable,
    *,
    interface: str,
    port: int,
    known: Callable[[Caller], None],
    on_connected: Callable[[Peer], None],
    on_lost: Callable[[Peer, str], None],
    on_refused: Callable[[str, Refusal], None] = lambda address, refusal: None,
) -> Deferred[IListeningPort]:
    """Listen for agents. `identity_source` is asked at every connection, so a renewed identity takes effect.

    `known` raises RpcError to refuse an agent whose certificate is good. `on_connected` comes before any
    frame of the peer is read, `on_lost` once for each peer, `on_refused(IP address, why)` for each connection
    that never became one.
    """

    def start() -> IListeningPort:
        source = _LastGood(identity_source)
        source.options()  # a listener without a usable identity must not start
        factory = _AgentFactory(reactor, source, methods, known, on_connected, on_lost, on_refused)
        secure = _SecureFactory(source, False, factory)
        secure.noisy = False
        listening: IListeningPort = reactor.listenTCP(port, secure, backlog=BACKLOG, interface=interface)
        return listening

    return defer.execute(start)


@implementer(IOpenSSLServerConnectionCreator)
class _LastGood:
    """The newest usable identity: a bad one is logged, and the last good one stays."""

    def __init__(self, source: Callable[[], Identity]) -> None:
        self._source = source
        self._options: TlsOptions | None = None

    def options(self) -> TlsOptions:
        try:
            identity = self._source()
            if self._options is None or self._options.identity != identity:
                self._options = daemon_options(identity)
        except Exception:
            if self._options is None:
                raise
            _log.failure("The control channel keeps its identity: the new one is unusable")
        return self._options

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return self.options().serverConnectionForTLS(tlsProtocol)


class _AgentFactory(Factory):
    noisy = False

    def __init__(
        self,
        reactor: Reactor,
        source: _LastGood,
        methods: MethodTable,
        known: Callable[[Caller], None],
        on_connected: Callable[[Peer], None],
        on_lost: Callable[[Peer, str], None],
        on_refused: Callable[[str, Refusal], None],
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._methods = methods
        self._known = known
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._unsettled = 0

    @property
    def is_full(self) -> bool:
        return self._unsettled >= MAX_UNSETTLED

    def buildProtocol(self, addr: IAddress | None) -> SecureStreamProtocol:
        self._unsettled += 1

        def lost(peer: Peer | None, why: str) -> None:
            if peer is None:
                _log.warn("Refused a control connection of {address}: {why}", address=addr, why=why)
                verdict = protocol.verdict
                if verdict is not None:
                    self._on_refused(str(getattr(addr, "host", "")), verdict)
            else:
                _log.info("{name} disconnected: {why}", name=peer.caller.name, why=why)
                self._on_lost(peer, why)

        def settled() -> None:
            self._unsettled -= 1

        options = self._source.options()
        protocol = SecureStreamProtocol(
            self._reactor, self._methods, self._on_connected, lost, options, self._known, settled
        )
        protocol.factory = self
        return protocol


class _SecureFactory(TLSMemoryBIOFactory):
    """Turns connections away before there is anything of them: Twisted's own would wrap None."""

    wrappedFactory: _AgentFactory

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.wrappedFactory.is_full:
            _log.warn("Turning {address} away: {count} handshakes wait", address=addr, count=MAX_UNSETTLED)
            return None
        return super().buildProtocol(addr)
