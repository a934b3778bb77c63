# SPDX-License-Identifier: Apache-2.0
"""One browser looking at one screen, from the WebSocket's upgrade to its last frame.

The screen is reached before the browser is greeted in RFB: whatever fails until then is told by a close code
and a sentence, not by a broken handshake.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.refusal import Refusal, RefusedError
from systemvm.cpvm.relay import Relay
from systemvm.cpvm.rfb import BrowserHandshake, RfbError
from systemvm.cpvm.tls_transport import TlsServer
from systemvm.cpvm.vnc_target import DialedScreen
from systemvm.cpvm.websocket import (
    Close,
    CloseCode,
    Data,
    Event,
    FrameParser,
    Opcode,
    Ping,
    WebSocketError,
    binary_frame,
    close_frame,
    control_frame,
)
from systemvm.wire.console import ConsoleSession

PING_AFTER_S = 30.0
SILENT_AFTER_S = 90.0
CLOSE_DEADLINE_S = 5.0


@frozen
class ReachedScreen:
    """What `reach` of a viewer comes back with."""

    display_name: str
    dialed: DialedScreen


class _State(enum.Enum):
    REACHING = "reaching"
    GREETING = "greeting"
    FLOWING = "flowing"
    CLOSING = "closing"
    ENDED = "ended"


class Viewer:
    """Takes over a TLS connection; `on_end` is called once, with the reason, when it is gone."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        browser: TlsServer,
        reach: Callable[[Viewer], Awaitable[ReachedScreen]],
        on_end: Callable[[Viewer, str], None],
        client_address: str,
    ) -> None:
        self.client_address = client_address
        self.session: ConsoleSession | None = None
        self._reactor = reactor
        self._browser = browser
        self._reach = reach
        self._on_end = on_end
        self._state = _State.REACHING
        self._parser = FrameParser()
        self._reaching: Deferred[ReachedScreen] | None = None
        self._handshake: BrowserHandshake | None = None
        self._relay: Relay | None = None
        self._owed_pong: bytes | None = None
        self._deaf = False  # what the browser sends cannot be understood any more
        self._close_deadline: IDelayedCall | None = None
        self._heard_at_s: float = reactor.seconds()
        self._pinged_at_s = self._heard_at_s
        self._reason = "the browser left"

    def start(self) -> None:
        """To be called when the connection has been taken over."""
        self._reaching = Deferred.fromCoroutine(self._reach_screen())
        self._reaching.addCallbacks(self._reached, self._not_reached)

    def admit(self, session: ConsoleSession) -> None:
        """The browser may see this session's screen: its connection has a place of its own from now on."""
        self.session = session
        self._browser.own(session.session_id)

    async def _reach_screen(self) -> ReachedScreen:
        return await self._reach(self)

    def _reached(self, reached: ReachedScreen) -> None:
        self._reaching = None
        dialed = reached.dialed
        self._relay = Relay(self._reactor, dialed.socket, self._browser, self._screen_closed)
        server_init = dialed.server_init.encode(reached.display_name)
        self._handshake = BrowserHandshake(server_init + dialed.early)
        self._state = _State.GREETING
        self._browser.send(binary_frame(BrowserHandshake.GREETING))

    def _not_reached(self, failure: Failure) -> None:
        self._reaching = None
        if failure.check(CancelledError):
            return
        if isinstance(failure.value, RefusedError):
            client, detail = self.client_address, str(failure.value)
            self.log.info("console refused to {client}: {detail}", client=client, detail=detail)
            self.refuse(failure.value.refusal)
            return
        self.log.failure("console could not be opened", failure=failure)
        self.close(CloseCode.INTERNAL_ERROR, "The console failed; its log says why.")

    # -- the browser speaks

    def received(self, data: bytes) -> None:
        self._heard_at_s = self._reactor.seconds()
        if self._state is _State.ENDED or self._deaf:
            return
        try:
            for event in self._parser.feed(data):
                self._take(event)
        except WebSocketError as broken:
            self._break(broken.code, str(broken))
        except RfbError as broken_handshake:
            self._break(CloseCode.PROTOCOL_ERROR, str(broken_handshake))

    def _take(self, event: Event) -> None:
        if isinstance(event, Close):
            if self._state is not _State.CLOSING:
                self.close(event.code or CloseCode.NORMAL)
            self._browser.loseConnection()
        elif self._state is _State.CLOSING:
            return
        elif isinstance(event, Data):
            self._take_data(event.payload)
        elif isinstance(event, Ping):
            self._owed_pong = event.payload
            self._pay_pong()

    def _take_data(self, payload: bytes) -> None:
        if self._relay is None or self._handshake is None:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "the console speaks first")
        if self._state is _State.FLOWING:
            self._relay.write(payload)
            return
        said = self._handshake.receive(payload)
        if said:
            self._browser.send(binary_frame(said))
        if self._handshake.done:
            self._state = _State.FLOWING
            self._relay.start()
            self._relay.write(self._handshake.rest())

    def _pay_pong(self) -> None:
        """Answers the latest ping alone (RFC 6455 5.5.3): a browser that does not read fills no queue."""
        if self._owed_pong is not None and not self._browser.stalled:
            pong, self._owed_pong = self._owed_pong, None
            self._browser.send(control_frame(Opcode.PONG, pong))

    def drained(self) -> None:
        self._pay_pong()
        if self._relay is not None:
            self._relay.browser_drained()

    def tick(self) -> None:
        """Called every few seconds: keeps an idle connection alive, lets go of one whose browser is gone."""
        now_s = self._reactor.seconds()
        if self._state in (_State.CLOSING, _State.ENDED):
            return
        if now_s - self._heard_at_s > SILENT_AFTER_S:
            self._reason = "the browser fell silent"
            self._browser.abortConnection()
        elif now_s - max(self._heard_at_s, self._pinged_at_s) > PING_AFTER_S and not self._browser.stalled:
            self._pinged_at_s = now_s
            self._browser.send(control_frame(Opcode.PING))

    # -- the end

    def _screen_closed(self) -> None:
        self.refuse(Refusal.SCREEN_CLOSED)

    def refuse(self, refusal: Refusal) -> None:
        self.close(refusal.close_code, refusal.title)

    def _break(self, code: CloseCode, reason: str) -> None:
        """After this the browser's bytes are read, so that our last words arrive, and thrown away."""
        self._deaf = True
        self.close(code, reason)

    def close(self, code: int, reason: str = "") -> None:
        """Say why, then wait a little for the browser's own close frame, so that the last words arrive."""
        if self._state in (_State.CLOSING, _State.ENDED):
            return
        self._state = _State.CLOSING
        if reason:
            self._reason = reason
        self._let_go()
        self._close_deadline = self._reactor.callLater(CLOSE_DEADLINE_S, self._leave)
        self._browser.send(close_frame(code, reason))

    def _leave(self) -> None:
        if self._browser.stalled:
            self._browser.abortConnection()
        else:
            self._browser.loseConnection()

    def _let_go(self) -> None:
        reaching, self._reaching = self._reaching, None
        if reaching is not None:
            reaching.cancel()
        if self._relay is not None:
            self._relay.close()

    def lost(self, reason: Failure) -> None:
        self._state = _State.ENDED
        self._let_go()
        if self._close_deadline is not None and self._close_deadline.active():
            self._close_deadline.cancel()
        self._on_end(self, self._reason)
