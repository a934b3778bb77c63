# SPDX-License-Identifier: Apache-2.0
"""Keeps an agent connected to a daemon: dials, calls hello, and redials when the connection is lost."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, NoRouteError, TCPTimedOutError, TimeoutError
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import INTERNAL, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.secure_transport import SecureStreamProtocol
from systemvm.rpc.stream.transport import Reactor, describe_failure
from systemvm.rpc.tls.context import TlsOptions, agent_options
from systemvm.rpc.tls.identity import Identity
from systemvm.service.backoff import Backoff
from systemvm.service.slowness import scaled_s
from systemvm.wire.control_failure import ChannelState, ControlFailure

CONNECT_TIMEOUT_S = 15.0
#: The longest wait after a refused connection: the agents of a restarted daemon are back soon after its
#: start.
REFUSED_RETRY_S = 2.0


class Dialer:
    """`peer` is the daemon once it has answered hello, None before and after.

    A daemon that refuses our certificate completes the TLS 1.3 handshake first, so the agent counts as
    connected, and the backoff is reset, only when `on_connected`, which calls hello, returns.
    `identity_source` is called at every attempt.
    """

    def __init__(
        self,
        reactor: Reactor,
        identity_source: Callable[[], Identity],
        methods: MethodTable,
        hosts: Sequence[tuple[str, int]],
        on_connected: Callable[[Peer], Awaitable[None]],
        on_state: Callable[[str], None] = lambda text: None,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        if not hosts:
            raise ValueError("a dialer needs at least one host")
        self._reactor = reactor
        self._identity_source = identity_source
        self._methods = methods
        self._hosts = list(hosts)
        self._on_connected = on_connected
        self._on_state = on_state
        self._backoff = backoff or Backoff()
        self._log = Logger()
        self._running: Deferred[None] | None = None
        self.peer: Peer | None = None
        self.connections = 0  # how often hello was answered

    def start(self) -> None:
        """Begin to dial, unless it runs already."""
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())

    def stop(self) -> Deferred[None]:
        """Disconnect and dial no more; the Deferred fires when the connection is closed."""
        running, self._running = self._running, None
        stopped: Deferred[None] = Deferred()
        if running is None:
            stopped.callback(None)
            return stopped

        def ended(result: object) -> None:
            if isinstance(result, Failure) and result.check(CancelledError) is None:
                self._log.failure("The dialer failed", failure=result)
            stopped.callback(None)

        running.addBoth(ended)
        # later, because the caller can run inside `on_connected`, which cannot be cancelled from within
        self._reactor.callLater(0, running.cancel)
        return stopped

    async def _run(self) -> None:
        attempt = 0
        while True:
            host, port = self._hosts[attempt % len(self._hosts)]
            attempt += 1
            try:
                loss = await self._connect_once(host, port)
            except CancelledError:
                raise
            except Exception:
                # any exception: an agent that stops dialing is lost for good
                self._log.failure("An attempt to connect failed")
                loss = _Loss(ControlFailure.INTERNAL, "internal error, see the log")
            refused = loss.reason is ControlFailure.CONNECTION_REFUSED
            wait_s = self._backoff.next_s(REFUSED_RETRY_S if refused else None)
            self._log.info(
                "Control channel: not connected to {host}:{port}: {why}; next attempt in {wait_s:.1f} s",
                channel=ChannelState.NOT_CONNECTED.value,
                reason=loss.reason.value,
                why=loss.why,
                host=host,
                port=port,
                wait_s=wait_s,
            )
            self._on_state(f"not connected to {host}:{port}: {loss.why}; next attempt in {wait_s:.1f} s")
            await deferLater(self._reactor, wait_s)

    async def _connect_once(self, host: str, port: int) -> _Loss:
        """Dial, call hello, wait until the connection is lost, and return the reason."""
        self._state(ChannelState.DIALING, f"dialing {host}:{port}")
        try:
            options = agent_options(self._identity_source())
        except (ValueError, OSError) as error:
            return _Loss(ControlFailure.OWN_IDENTITY, str(error))
        attempt = _Attempt(self._reactor, self._methods, options)
        connector: IConnector = self._reactor.connectTCP(
            host, port, TLSMemoryBIOFactory(options, True, attempt), timeout=scaled_s(CONNECT_TIMEOUT_S)
        )
        try:
            peer = await attempt.outcome
            if peer is None:
                return attempt.loss
            await self._call_on_connected(peer)
            if peer.closed:
                return _Loss(ControlFailure.LOST, await peer.when_closed())
            self.peer = peer
            self.connections += 1
            self._backoff.reset()
            self._state(ChannelState.CONNECTED, f"connected to {peer.caller.name} at {host}:{port}")
            return _Loss(ControlFailure.LOST, await peer.when_closed())
        except RpcError as error:
            reason = ControlFailure.of(error.reason) or ControlFailure.HELLO_FAILED
            return _Loss(reason, f"hello failed: {error}")
        finally:
            self.peer = None
            if attempt.peer is not None:
                attempt.peer.close("disconnected")
            else:
                connector.disconnect()
            await attempt.closed

    async def _call_on_connected(self, peer: Peer) -> None:
        try:
            await self._on_connected(peer)
        except (RpcError, CancelledError):
            raise
        except Exception:
            self._log.failure("Calling hello of {name} failed", name=peer.caller.name)
            raise RpcError(INTERNAL, "hello failed", {"hint": "read the log of this end"}) from None

    def _state(self, state: ChannelState, text: str) -> None:
        self._log.info("Control channel: {text}", text=text, channel=state.value)
        self._on_state(text)


class _Loss(NamedTuple):
    """Why there is no connection: a code, and the same for people."""

    reason: ControlFailure
    why: str


class _Attempt(ClientFactory):
    """One connection: its peer once the daemon's certificate is accepted, and its end."""

    noisy = False

    def __init__(self, reactor: Reactor, methods: MethodTable, options: TlsOptions) -> None:
        self._reactor = reactor
        self._methods = methods
        self._options = options
        self.outcome: Deferred[Peer | None] = Deferred()  # None when there is no peer, and then `loss`
        self.closed: Deferred[None] = Deferred()
        self.peer: Peer | None = None
        self.loss = _Loss(ControlFailure.LOST, "")
        self._protocol: SecureStreamProtocol | None = None

    def buildProtocol(self, addr: IAddress | None) -> SecureStreamProtocol:
        self._protocol = SecureStreamProtocol(
            self._reactor, self._methods, self._connected, self._lost, self._options
        )
        return self._protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._end(_Loss(_reason_of(reason), describe_failure(reason)))

    def _connected(self, peer: Peer) -> None:
        self.peer = peer
        if not self.outcome.called:
            self.outcome.callback(peer)

    def _lost(self, peer: Peer | None, why: str) -> None:
        verdict = None if self._protocol is None else self._protocol.verdict
        self._end(_Loss(ControlFailure.LOST if verdict is None else verdict.check, why))

    def _end(self, loss: _Loss) -> None:
        self.loss = loss
        if not self.outcome.called:
            self.outcome.callback(None)
        self.closed.callback(None)


def _reason_of(failure: Failure) -> ControlFailure:
    """The code of a TCP connection that could not be made."""
    if failure.check(ConnectionRefusedError) is not None:
        return ControlFailure.CONNECTION_REFUSED
    if failure.check(TimeoutError, TCPTimedOutError) is not None:
        return ControlFailure.NO_ANSWER
    number = getattr(failure.value, "osError", None)
    if failure.check(NoRouteError) is not None or number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return ControlFailure.UNREACHABLE
    return ControlFailure.LOST
