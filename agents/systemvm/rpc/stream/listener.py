# SPDX-License-Identifier: Apache-2.0
"""The TLS listener for agents: each accepted certificate becomes a `Peer`."""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.secure_transport import SecureStreamProtocol
from systemvm.rpc.stream.transport import Reactor
from systemvm.rpc.tls.context import TlsOptions, daemon_options
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.refusal import Refusal
from systemvm.service.connection_limits import Bounds, ConnectionLimits, source_of_address
from systemvm.wire.control_failure import ControlFailure

#: Many pending connections, because all agents of a host can come from one address after a restart of the
#: daemon. An agent needs one connection, and a second one while it redials.
BOUNDS = Bounds(pending=1024, pending_of_source=256, of_owner=4)
#: Evicted connections are reported this often, and not each of them.
CROWD_REPORT_INTERVAL_S = 60.0
BACKLOG = 1024  # all agents of a host dial at once after a restart of its daemon

_CROWDED = Refusal(ControlFailure.CROWDED, "its source has too many connections")

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
    limits: ConnectionLimits | None = None,
    source_of: Callable[[str], str] = source_of_address,
) -> Deferred[IListeningPort]:
    """Listen for agents. `identity_source` is called at every connection, so a renewed identity takes effect.

    `known` raises an RpcError to refuse an agent with a valid certificate. `on_connected` is called before
    any frame of the peer is read, `on_lost` once for each peer, `on_refused(IP address, why)` for each
    connection without a peer, except that evicted ones are reported once a minute. `limits` can be shared by
    several listeners; `source_of` maps an IP address to its source there.
    """

    def start() -> IListeningPort:
        source = _CurrentIdentity(identity_source)
        source.options()  # a listener without a usable identity must not start
        factory = _AgentFactory(
            reactor,
            source,
            methods,
            known,
            on_connected,
            on_lost,
            on_refused,
            limits or ConnectionLimits(BOUNDS),
            source_of,
        )
        secure = TLSMemoryBIOFactory(source, False, factory)
        secure.noisy = False
        listening: IListeningPort = reactor.listenTCP(port, secure, backlog=BACKLOG, interface=interface)
        return listening

    return defer.execute(start)


@implementer(IOpenSSLServerConnectionCreator)
class _CurrentIdentity:
    """The newest usable identity: a bad one is logged, and the last good one is kept."""

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
        source: _CurrentIdentity,
        methods: MethodTable,
        known: Callable[[Caller], None],
        on_connected: Callable[[Peer], None],
        on_lost: Callable[[Peer, str], None],
        on_refused: Callable[[str, Refusal], None],
        limits: ConnectionLimits,
        source_of: Callable[[str], str],
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._methods = methods
        self._known = known
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._limits = limits
        self._source_of = source_of
        self._crowded = 0
        self._crowd_reported_s: float | None = None

    def buildProtocol(self, addr: IAddress | None) -> SecureStreamProtocol:
        address = str(getattr(addr, "host", ""))

        def known(caller: Caller) -> None:
            self._known(caller)
            slot.own(caller.name)

        def lost(peer: Peer | None, why: str) -> None:
            slot.release()
            if peer is not None:
                _log.info("{name} disconnected: {why}", name=peer.caller.name, why=why)
                self._on_lost(peer, why)
            elif protocol.verdict is not None and protocol.verdict.check is ControlFailure.CROWDED:
                self._report_crowd(address, protocol.verdict)
            else:
                _log.warn("Refused a control connection of {address}: {why}", address=addr, why=why)
                if protocol.verdict is not None:
                    self._on_refused(address, protocol.verdict)

        protocol = SecureStreamProtocol(
            self._reactor, self._methods, self._on_connected, lost, self._source.options(), known
        )
        protocol.factory = self
        slot = self._limits.admit(self._source_of(address), lambda: protocol.reject(_CROWDED))
        return protocol

    def _report_crowd(self, address: str, verdict: Refusal) -> None:
        self._crowded += 1
        now_s = self._reactor.seconds()
        if self._crowd_reported_s is not None and now_s - self._crowd_reported_s < CROWD_REPORT_INTERVAL_S:
            return
        self._crowd_reported_s = now_s
        _log.warn(
            "Closed {count} control connections to make room for others, the last one of {address}",
            count=self._crowded,
            address=address,
        )
        self._crowded = 0
        self._on_refused(address, verdict)
