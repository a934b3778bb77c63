# SPDX-License-Identifier: Apache-2.0
"""A VNC server behind a WebSocket: the client's part of RFC 6455, for QEMU's `-vnc …,websocket` and ESXi.

Payload is moved to the front of the caller's buffer, over the headers between: frames need no buffer of
their own. A frame that is sent is held until the connection has accepted all of it.
"""

from __future__ import annotations

import secrets

from systemvm.cpvm.target_stream import TargetStream
from systemvm.cpvm.websocket import MAX_CONTROL_BYTES, CloseCode, Opcode, WebSocketError, unmask

#: The longest payload of one frame: a client's keys, pointer and clipboard are short.
_PAYLOAD_BYTES = 16 * 1024
_FIN = 0x80
_MASKED = 0x80


class WebSocketStream:
    """RFB's bytes without their frames; `early` are bytes that followed the server's handshake."""

    def __init__(self, inner: TargetStream, early: bytes = b"") -> None:
        self._inner = inner
        self._early = early
        self._head = b""  # of a frame, or a whole control frame
        self._left_bytes = 0  # of the current frame's payload
        self._is_final = True
        self._in_message = False
        self._is_closed = False
        self._unsent = b""  # of the frame that carries the first `_carried_bytes` of the next write
        self._carried_bytes = 0
        self._pong = b""

    @property
    def reading_needs_write(self) -> bool:
        return self._inner.reading_needs_write

    def fileno(self) -> int:
        return self._inner.fileno()

    def has_pending(self) -> bool:
        return bool(self._early) or self._inner.has_pending()

    def close(self) -> None:
        self._inner.close()

    # -- reading

    def read_into(self, buffer: memoryview) -> int:
        """Return how many bytes of payload were received.

        Raises: WebSocketError when the server violates the protocol, else as any stream.
        """
        while not self._is_closed:
            count = self._take_early(buffer) or self._inner.read_into(buffer)
            if not count:
                return 0
            kept = self._remove_frames(buffer, count)
            if kept:
                return kept
        return 0

    def _take_early(self, buffer: memoryview) -> int:
        count = min(len(self._early), len(buffer))
        buffer[:count] = self._early[:count]
        self._early = self._early[count:]
        return count

    def _remove_frames(self, buffer: memoryview, count: int) -> int:
        at = kept = 0
        while at < count and not self._is_closed:
            if self._left_bytes:
                size = min(self._left_bytes, count - at)
                if kept != at:
                    buffer[kept : kept + size] = buffer[at : at + size]
                kept += size
                at += size
                self._left_bytes -= size
                continue
            taken = bytes(buffer[at : min(count, at + self._head_bytes() - len(self._head))])
            self._head += taken
            at += len(taken)
            if len(self._head) == self._head_bytes():
                head, self._head = self._head, b""
                self._handle(head)
        return kept

    def _head_bytes(self) -> int:
        """Return the length of the header as far as it is known; a control frame's includes its payload."""
        if len(self._head) < 2:
            return 2
        length = self._head[1] & ~_MASKED
        if self._head[0] & 0x08:
            return 2 + min(length, MAX_CONTROL_BYTES)
        return 2 + {126: 2, 127: 8}.get(length, 0)

    def _handle(self, head: bytes) -> None:
        if head[0] & 0x70:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "reserved bit is set")
        if head[1] & _MASKED:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "frame of a server is masked")
        is_final, opcode, length = bool(head[0] & _FIN), head[0] & 0x0F, head[1]
        if opcode & 0x08:
            if not is_final or length > MAX_CONTROL_BYTES:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "control frame is too long or fragmented")
            self._handle_control(opcode, head[2:])
            return
        if opcode != (Opcode.CONTINUATION if self._in_message else Opcode.BINARY):
            raise WebSocketError(
                CloseCode.PROTOCOL_ERROR, "frame is not binary, or fragments are out of order"
            )
        self._left_bytes = length if length < 126 else int.from_bytes(head[2:], "big")
        if self._left_bytes >> 63:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "length of a frame is negative")
        self._in_message = not is_final

    def _handle_control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.CLOSE:
            self._is_closed = True
        elif opcode == Opcode.PING:
            # only the latest is answered (RFC 6455 5.5.3), so that pings fill no queue
            self._pong = _frame(Opcode.PONG, payload)
            if not self._unsent:
                self._begin_pong()
                self._flush_quietly()
        elif opcode != Opcode.PONG:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "unknown opcode")

    # -- writing

    def write(self, data: bytes) -> int:
        if self._carried_bytes == 0:
            self._begin_pong()
            self._carried_bytes = min(len(data), _PAYLOAD_BYTES)
            self._unsent += _frame(Opcode.BINARY, data[: self._carried_bytes])
        self._flush()
        accepted, self._carried_bytes = self._carried_bytes, 0
        return accepted

    def _begin_pong(self) -> None:
        self._unsent, self._pong = self._unsent + self._pong, b""

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except BlockingIOError:
            return  # sent before the next write

    def _flush(self) -> None:
        while self._unsent:
            self._unsent = self._unsent[self._inner.write(self._unsent) :]


def _frame(opcode: Opcode, payload: bytes) -> bytes:
    mask = secrets.token_bytes(4)
    count = len(payload)
    if count < 126:
        length = bytes((_MASKED | count,))
    elif count < 1 << 16:
        length = bytes((_MASKED | 126,)) + count.to_bytes(2, "big")
    else:
        raise ValueError(f"frame is too long: {count} bytes")
    return bytes((_FIN | opcode,)) + length + mask + unmask(payload, mask)
