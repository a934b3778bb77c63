# SPDX-License-Identifier: Apache-2.0
"""The same peer between two processes of a machine: a UNIX stream socket without TLS (agent and fetch)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IListeningPort, IReactorTime
from twisted.internet.protocol import ClientFactory, Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.peer_credentials import Authorize, credentials
from systemvm.rpc.stream.transport import Reactor, StreamProtocol, describe_failure
from systemvm.rpc.stream.unix_path import listen_at

CONNECT_TIMEOUT_S = 15.0

_log = Logger()


def listen_unix_stream(
    reactor: Reactor,
    where: str | Path | int,
    methods: MethodTable,
    *,
    authorize: Authorize,
    on_connected: Callable[[Peer], None],
    on_lost: Callable[[Peer, str], None] = lambda peer, why: None,
    mode: int = 0o660,
) -> IListeningPort:
    """Listen at a path or on an inherited descriptor; `authorize` identifies the other end."""
    return listen_at(reactor, where, _UnixFactory(reactor, methods, authorize, on_connected, on_lost), mode)


def connect_unix_stream(
    reactor: Reactor,
    path: str | Path,
    methods: MethodTable,
    *,
    remote: Caller,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Deferred[Peer]:
    """Connect to the listener at `path`, which is `remote`: the permissions of the file prove it."""
    attempt = _UnixAttempt(reactor, methods, remote)
    connector: IConnector = reactor.connectUNIX(str(path), attempt, timeout=timeout_s)
    attempt.connected = Deferred(lambda deferred: connector.disconnect())
    return attempt.connected


class _UnixProtocol(StreamProtocol):
    def __init__(
        self,
        clock: IReactorTime,
        methods: MethodTable,
        on_peer: Callable[[Peer], None],
        on_lost: Callable[[Peer | None, str], None],
        authorize: Authorize,
    ) -> None:
        super().__init__(clock, methods, on_peer, on_lost)
        self._authorize = authorize

    def connectionMade(self) -> None:
        uid, gid, pid = credentials(self.transport.getHandle())
        caller = self._authorize(uid, gid, pid)
        if caller is None:
            self.refuse(f"uid {uid} (pid {pid}) is not allowed here")
        else:
            self.start_peer(caller)


class _UnixFactory(Factory):
    noisy = False

    def __init__(
        self,
        reactor: Reactor,
        methods: MethodTable,
        authorize: Authorize,
        on_connected: Callable[[Peer], None],
        on_lost: Callable[[Peer, str], None],
    ) -> None:
        self._reactor = reactor
        self._methods = methods
        self._authorize = authorize
        self._on_connected = on_connected
        self._on_lost = on_lost

    def buildProtocol(self, addr: IAddress | None) -> _UnixProtocol:
        return _UnixProtocol(self._reactor, self._methods, self._on_connected, self._lost, self._authorize)

    def _lost(self, peer: Peer | None, why: str) -> None:
        if peer is None:
            _log.warn("Refused a local connection: {why}", why=why)
        else:
            self._on_lost(peer, why)


class _UnixAttempt(ClientFactory):
    noisy = False

    def __init__(self, reactor: Reactor, methods: MethodTable, remote: Caller) -> None:
        self._reactor = reactor
        self._methods = methods
        self._remote = remote
        self.connected: Deferred[Peer] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> _UnixProtocol:
        return _UnixProtocol(
            self._reactor, self._methods, self._made, self._lost, lambda uid, gid, pid: self._remote
        )

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._fail(describe_failure(reason))

    def _made(self, peer: Peer) -> None:
        if not self.connected.called:
            self.connected.callback(peer)

    def _lost(self, peer: Peer | None, why: str) -> None:
        self._fail(why)

    def _fail(self, why: str) -> None:
        if not self.connected.called:
            self.connected.errback(RpcError(NOT_CONNECTED, f"{self._remote.name} is not connected: {why}"))
