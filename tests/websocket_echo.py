# SPDX-License-Identifier: Apache-2.0
"""A WebSocket server for tests that sends every message back, on the CPVM's engine."""

from __future__ import annotations

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
)

MAX_MESSAGE_BYTES = 16 << 20


class WebSocketEcho:
    """One connection after its upgrade, without I/O."""

    def __init__(self) -> None:
        self.is_closed = False
        self._parser = FrameParser(MAX_MESSAGE_BYTES, accepts_text=True)
        self._in_message = False

    def receive(self, data: bytes) -> bytes:
        """Return what is sent in answer to these bytes; nothing is after a close frame."""
        if self.is_closed:
            return b""
        output = bytearray()
        try:
            for event in self._parser.feed(data):
                output += self._answer(event)
        except WebSocketError as broken:
            self.is_closed = True
            output += close_frame(broken.code, str(broken))
        return bytes(output)

    def _answer(self, event: Event) -> bytes:
        if isinstance(event, PingFrame):
            return control_frame(Opcode.PONG, event.payload)
        if isinstance(event, CloseFrame):
            self.is_closed = True
            return close_frame(event.code or CloseCode.NORMAL)
        if not isinstance(event, DataFrame):
            return b""
        opcode = Opcode.TEXT if event.is_text else Opcode.BINARY
        frame = bytearray(binary_frame(event.payload))
        frame[0] = (0x80 if event.is_final else 0) | (Opcode.CONTINUATION if self._in_message else opcode)
        self._in_message = not event.is_final
        return bytes(frame)
