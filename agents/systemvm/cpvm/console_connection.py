# SPDX-License-Identifier: Apache-2.0
"""One console: a browser's WebSocket and a VM's VNC server, from the upgrade to the last frame.

The RFB handshake with the browser begins as soon as its session is known, and goes on while the VNC server is
connected; it ends with the VNC server's ServerInit. Every failure until then is reported by a close code and
a sentence. A serial port has no handshake.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.filtered_screen import filtered_screen
from systemvm.cpvm.recording.tap import RecordingTap
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.relay import Relay
from systemvm.cpvm.rfb import BrowserHandshake
from systemvm.cpvm.serial_port import SerialPort
from systemvm.cpvm.serial_relay import SerialRelay
from systemvm.cpvm.timeouts import is_input, is_typed
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.cpvm.websocket import (
    CloseCode,
    CloseFrame,
    DataFrame,
    Event,
    FrameParser,
    Opcode,
    PingFrame,
    WebSocketError,
    binary_frame,
    close_frame,
    control_frame,
    text_frame,
)
from systemvm.service.rfb_handshake import RfbError
from systemvm.web.tls_transport import TlsTransport
from systemvm.wire.console import UNRESTRICTED, ConsoleKind, ConsolePolicy, ConsoleSession

PING_AFTER_S = 30.0
SILENT_AFTER_S = 90.0
CLOSE_DEADLINE_S = 5.0
#: What a browser can send after its handshake, while its screen is still connected.
MAX_EARLY_BYTES = 4096
#: A browser answers the first bytes of the RFB handshake at once, or its connection is dead.
HANDSHAKE_DEADLINE_S = 30.0

_GREETING = binary_frame(BrowserHandshake.GREETING)


@frozen
class OpenedTarget:
    """The VNC connection or serial port of a console, the name that the browser shows, and what it may do."""

    display_name: str
    vnc: VncConnection | None = None
    policy: ConsolePolicy = UNRESTRICTED
    tap: RecordingTap | None = None
    serial: SerialPort | None = None


class _State(enum.Enum):
    OPENING = "opening"  # its session is not known yet, or it is one of a serial port
    HANDSHAKE = "handshake"
    FLOWING = "flowing"
    CLOSING = "closing"
    ENDED = "ended"


class ConsoleConnection:
    """Takes over a TLS connection; `on_end` is called once, with the reason, when the connection is lost.

    `on_answer` is called once, when the browser has sent anything: it has received the response.
    """

    #: With more than 30 attributes an instance's dict would take 1.5 kB for each of a thousand sessions.
    __slots__ = (
        "_browser",
        "_close_deadline",
        "_discards_input",
        "_from_browser",
        "_handshake",
        "_is_serial",
        "_is_started",
        "_on_answer",
        "_on_end",
        "_open_target",
        "_opening",
        "_parser",
        "_pending_pong",
        "_pinged_at_s",
        "_reactor",
        "_reason",
        "_received_at_s",
        "_relay",
        "_screen_fault",
        "_server_init",
        "_state",
        "_taken",
        "_tap",
        "client_address",
        "input_at_s",
        "is_told",
        "is_told_moved",
        "page_url",
        "received_bytes",
        "refusal",
        "screen",
        "session",
        "was_shown",
    )

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        browser: TlsTransport,
        open_target: Callable[[ConsoleConnection], Awaitable[OpenedTarget]],
        on_end: Callable[[ConsoleConnection, str], None],
        client_address: str,
        on_answer: Callable[[ConsoleConnection], None] = lambda connection: None,
    ) -> None:
        self.client_address = client_address
        self.session: ConsoleSession | None = None
        self.input_at_s: float | None = None  # when its user last sent input here
        self.received_bytes = 0
        self.was_shown = False  # whether the browser got the screen
        self.refusal: BrowserRefusal | None = None  # that closed it
        self.is_told = False  # whether its page says that the session is watched
        self.page_url = ""  # the console proxy's address when its page connected
        self.is_told_moved = False  # whether its page knows that the address is another one now
        self.screen: tuple[str, int] | None = None  # where its VM's screen was when it asked
        self._reactor = reactor
        self._browser = browser
        self._open_target: Callable[[ConsoleConnection], Awaitable[OpenedTarget]] | None = open_target
        self._on_end = on_end
        self._on_answer: Callable[[ConsoleConnection], None] | None = on_answer
        self._state = _State.OPENING
        self._parser = FrameParser()
        self._opening: Deferred[OpenedTarget] | None = None
        self._handshake: BrowserHandshake | None = None
        self._server_init: bytes | None = None  # while it is known and not sent yet
        self._is_started = False
        self._relay: Relay | SerialRelay | None = None
        self._from_browser: Callable[[bytes], bytes] | None = None  # the filter
        self._tap: RecordingTap | None = None
        self._is_serial = False
        self._screen_fault: FilterError | None = None
        self._taken = (0, 0)
        self._pending_pong: bytes | None = None
        self._discards_input = False  # after a protocol error nothing from the browser can be parsed
        self._close_deadline: IDelayedCall | None = None
        self._received_at_s: float = reactor.seconds()
        self._pinged_at_s = self._received_at_s
        self._reason = "the browser left"

    def start(self) -> None:
        """Open the target; to be called when the connection has been taken over."""
        # An idle session keeps nothing of its beginning: what opened its target holds the request.
        open_target, self._open_target = self._open_target, None
        if open_target is None:
            return
        self._is_started = True
        self._greet()
        self._opening = Deferred.fromCoroutine(self._open(open_target))
        self._opening.addCallbacks(self._target_opened, self._target_failed)

    def admit(self, session: ConsoleSession, page_url: str = "") -> None:
        """Bind the connection to its session; the listener's limits no longer close it to make room."""
        self.session, self.page_url = session, page_url
        self._browser.assign_owner(session.session_id)
        if self._is_started:
            self._greet()

    def _greet(self) -> None:
        """Begin the handshake of a screen's session."""
        session = self.session
        if self._state is _State.OPENING and session is not None and session.kind is ConsoleKind.SCREEN:
            self._handshake = BrowserHandshake()
            self._state = _State.HANDSHAKE
            self._received_at_s = self._reactor.seconds()
            self._browser.send(_GREETING)

    async def _open(
        self, open_target: Callable[[ConsoleConnection], Awaitable[OpenedTarget]]
    ) -> OpenedTarget:
        return await open_target(self)

    def _target_opened(self, target: OpenedTarget) -> None:
        self._opening = None
        if target.serial is not None:
            self._serial_opened(target.serial, target)
        elif target.vnc is not None:
            self._screen_opened(target, target.vnc)

    def _serial_opened(self, port: SerialPort, target: OpenedTarget) -> None:
        """Connect the browser to the bytes of the port: there is no handshake."""
        self._is_serial = True
        self._tap = tap = target.tap
        record = None if tap is None else tap.copy
        self._relay = SerialRelay(
            port, self._browser, target.policy, self._target_closed, record, self._must_wait
        )
        self._state = _State.FLOWING
        # a page that only looks sends nothing; the answer proves that it has received its next secret
        self._browser.send(control_frame(Opcode.PING))
        self._relay.start()

    def _screen_opened(self, target: OpenedTarget, vnc: VncConnection) -> None:
        screen, early = vnc.stream, vnc.early
        self._tap = target.tap
        if target.tap is not None or not target.policy.is_unrestricted:
            try:
                filtered = filtered_screen(vnc, target.policy, target.tap, self._keep_fault, self._must_wait)
            except FilterError as fault:
                vnc.stream.close()
                self._screen_fault = fault
                self._target_closed()
                return
            screen, early, self._from_browser = filtered.stream, filtered.early, filtered.from_browser
        self._relay = relay = Relay(self._reactor, screen, self._browser, self._target_closed)
        if self._tap is not None:
            self._tap.on_full_update = relay.write
        self._server_init = vnc.server_init.encode(target.display_name) + early
        if self._handshake is not None:
            self._continue_handshake(self._handshake)

    def _must_wait(self) -> bool:
        """Return whether the recorder is behind; then nothing is sent to the browser until it is not."""
        tap = self._tap
        if tap is None or not tap.is_behind:
            return False
        relay = self._relay
        if relay is not None:
            relay.hold()
            tap.wait(relay.go_on)
        return True

    def _keep_fault(self, fault: FilterError) -> None:
        self._screen_fault = fault

    def _target_failed(self, failure: Failure) -> None:
        self._opening = None
        if failure.check(CancelledError):
            return
        if isinstance(failure.value, ConsoleRefusedError):
            client, detail = self.client_address, str(failure.value)
            self.log.info("console refused for {client}: {detail}", client=client, detail=detail)
            self.refuse(failure.value.refusal)
            return
        self.log.failure("cannot open console", failure=failure)
        self.close(CloseCode.INTERNAL_ERROR, "Internal error of the console proxy")

    # -- input from the browser

    def received(self, data: bytes) -> None:
        self._received_at_s = self._reactor.seconds()
        if self._on_answer is not None:
            answer, self._on_answer = self._on_answer, None
            answer(self)
        if self._state is _State.ENDED or self._discards_input:
            return
        try:
            if self._state is _State.FLOWING and (payload := self._parser.whole_frame(data)) is not None:
                self._handle_data(payload)
                return
            for event in self._parser.feed(data):
                self._handle(event)
        except WebSocketError as broken:
            self._fail(broken.code, str(broken))
        except (RfbError, FilterError) as unexpected:
            self._fail(CloseCode.PROTOCOL_ERROR, str(unexpected))

    def _handle(self, event: Event) -> None:
        if isinstance(event, CloseFrame):
            if self._state is not _State.CLOSING:
                self.close(event.code or CloseCode.NORMAL)
            self._browser.loseConnection()
        elif self._state is _State.CLOSING:
            return
        elif isinstance(event, DataFrame):
            self._handle_data(event.payload)
        elif isinstance(event, PingFrame):
            self._pending_pong = event.payload
            self._send_pong()

    def _handle_data(self, payload: bytes) -> None:
        if self._state is _State.FLOWING and self._relay is not None:
            self.received_bytes += len(payload)
            if is_typed(payload) if self._is_serial else is_input(payload):
                self.input_at_s = self._received_at_s
            self._forward(self._relay, payload)
            return
        if self._handshake is None:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "data before the server's RFB version")
        output = self._handshake.receive(payload)
        if self._relay is None and self._handshake.buffered_bytes > MAX_EARLY_BYTES:
            raise WebSocketError(CloseCode.MESSAGE_TOO_BIG, "too much data before the server's ServerInit")
        self._continue_handshake(self._handshake, output)

    def _continue_handshake(self, handshake: BrowserHandshake, output: bytes = b"") -> None:
        """Send the output, and ServerInit as soon as it is possible; begin to relay when all is done."""
        if self._server_init is not None and handshake.may_get_server_init:
            output += self._server_init
            self._server_init = None
        if output:
            self._browser.send(binary_frame(output))
        relay = self._relay
        if relay is not None and self._server_init is None and handshake.done:
            self._state, self.was_shown, self._handshake = _State.FLOWING, True, None
            relay.start()
            if early := handshake.rest():
                self._forward(relay, early)

    def _forward(self, relay: Relay | SerialRelay, data: bytes) -> None:
        relay.write(data if self._from_browser is None else self._from_browser(data))

    def _send_pong(self) -> None:
        """Answer only the latest ping (RFC 6455 5.5.3): a browser that does not read fills no queue."""
        if self._pending_pong is not None and not self._browser.is_blocked:
            pong, self._pending_pong = self._pending_pong, None
            self._browser.send(control_frame(Opcode.PONG, pong))

    def take_bytes(self) -> tuple[int, int]:
        """Return how much was sent to the browser and received from it since the last call."""
        sent = 0 if self._relay is None else self._relay.sent_bytes
        taken = (sent - self._taken[0], self.received_bytes - self._taken[1])
        self._taken = (sent, self.received_bytes)
        return taken

    @property
    def is_flowing(self) -> bool:
        """Whether both handshakes are done."""
        return self._state is _State.FLOWING

    def notify(self, message: dict[str, object]) -> bool:
        """Send the console's page a short message; return False when the browser does not read now."""
        if not self.is_flowing or self._browser.is_blocked:
            return False
        self._browser.send(text_frame(msgspec.json.encode(message)))
        return True

    def drained(self) -> None:
        self._send_pong()
        if self._relay is not None:
            self._relay.browser_drained()

    def tick(self) -> None:
        """Ping an idle browser and drop a silent one; to be called every few seconds."""
        now_s = self._reactor.seconds()
        if self._state in (_State.CLOSING, _State.ENDED):
            return
        unanswered = self._state is _State.HANDSHAKE and self._on_answer is not None
        if now_s - self._received_at_s > (HANDSHAKE_DEADLINE_S if unanswered else SILENT_AFTER_S):
            self._reason = "the browser does not respond"
            self._browser.abortConnection()
        elif (
            now_s - max(self._received_at_s, self._pinged_at_s) > PING_AFTER_S
            and not self._browser.is_blocked
        ):
            self._pinged_at_s = now_s
            self._browser.send(control_frame(Opcode.PING))

    # -- the end

    def _target_closed(self) -> None:
        if self._screen_fault is None:
            self.refuse(BrowserRefusal.SERIAL_CLOSED if self._is_serial else BrowserRefusal.SCREEN_CLOSED)
            return
        session = "" if self.session is None else self.session.session_id
        fault = str(self._screen_fault)
        self.log.info("session {session}: screen cannot be followed: {fault}", session=session, fault=fault)
        self.refuse(BrowserRefusal.SCREEN_FAULTY)

    def refuse(self, refusal: BrowserRefusal) -> None:
        if self.refusal is None:
            self.refusal = refusal
        self.close(refusal.close_code, refusal.title)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Close after a protocol error; input is read and discarded, so that the close frame arrives."""
        self._discards_input = True
        self.close(code, reason)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and wait at most CLOSE_DEADLINE_S for the browser's, so that ours arrives."""
        if self._state in (_State.CLOSING, _State.ENDED):
            return
        self._state = _State.CLOSING
        if reason:
            self._reason = reason
        self._release()
        self._close_deadline = self._reactor.callLater(CLOSE_DEADLINE_S, self._disconnect)
        self._browser.send(close_frame(code, reason))

    def _disconnect(self) -> None:
        if self._browser.is_blocked:
            self._browser.abortConnection()
        else:
            self._browser.loseConnection()

    def _release(self) -> None:
        reaching, self._opening = self._opening, None
        if reaching is not None:
            reaching.cancel()
        if self._relay is not None:
            self._relay.close()
        tap, self._tap = self._tap, None
        if tap is not None:
            tap.end()

    def lost(self, reason: Failure) -> None:
        self._state = _State.ENDED
        self._release()
        if self._close_deadline is not None and self._close_deadline.active():
            self._close_deadline.cancel()
        self._on_end(self, self._reason)
