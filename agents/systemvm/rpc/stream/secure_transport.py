# SPDX-License-Identifier: Apache-2.0
"""A `StreamProtocol` over TLS: the certificate is checked after the handshake, then frames are read."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.transport import StreamProtocol, set_keepalive
from systemvm.rpc.tls.context import TlsOptions
from systemvm.rpc.tls.peer_certificate import IdentityRefused
from systemvm.rpc.tls.refusal import Refusal, of_lost_handshake
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.wire.control_failure import ControlFailure

HANDSHAKE_TIMEOUT_S = 15.0


@implementer(IHandshakeListener)
class SecureStreamProtocol(StreamProtocol):
    """`known` can raise an RpcError to refuse the end that the certificate names.

    `verdict` has the reason.
    """

    def __init__(
        self,
        clock: IReactorTime,
        methods: MethodTable,
        on_peer: Callable[[Peer], None],
        on_lost: Callable[[Peer | None, str], None],
        options: TlsOptions,
        known: Callable[[Caller], None] = lambda caller: None,
    ) -> None:
        super().__init__(clock, methods, on_peer, on_lost)
        self._options = options
        self._known = known
        self._handshake: ScaledTimer | None = None
        self._is_handshake_complete = False
        self.verdict: Refusal | None = None  # why there is no peer, once the connection is lost

    def connectionMade(self) -> None:
        set_keepalive(self.transport.transport)  # on TCP, below TLS
        self._handshake = ScaledTimer(self._clock, HANDSHAKE_TIMEOUT_S, self._handshake_timed_out)

    def handshakeCompleted(self) -> None:
        if self.refusal is not None:
            return
        self._is_handshake_complete = True
        self._stop_handshake_timer()
        certificate = self.transport.getPeerCertificate()
        if certificate is None:
            self.reject(Refusal(ControlFailure.NO_CERTIFICATE, "it sent no certificate"))
            return
        try:
            caller = self._options.check(certificate.to_cryptography())
            self._known(caller)
        except IdentityRefused as error:
            self.reject(Refusal(error.check, f"its certificate {error}"))
            return
        except RpcError as error:
            self.reject(Refusal.of_application(error))
            return
        except Exception:
            self._log.failure("Checking a certificate failed")
            self.reject(Refusal(ControlFailure.CHAIN, "its certificate cannot be parsed"))
            return
        self.start_peer(caller)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_handshake_timer()
        if self.verdict is None and not self._is_handshake_complete:
            self.verdict = of_lost_handshake(reason, self.transport.getHandle())
            self.refusal = f"{self.verdict.check.value}: {self.verdict.text}"
        super().connectionLost(reason)

    def _handshake_timed_out(self) -> None:
        waited_s = HANDSHAKE_TIMEOUT_S if self._handshake is None else self._handshake.waited_s
        self.reject(Refusal(ControlFailure.TIMEOUT, f"no TLS handshake in {waited_s:.0f} s"))

    def reject(self, verdict: Refusal) -> None:
        """Close the connection with a verdict."""
        self.verdict = verdict
        self.refuse(f"{verdict.check.value}: {verdict.text}")

    def _stop_handshake_timer(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
