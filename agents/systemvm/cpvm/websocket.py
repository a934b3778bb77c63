# SPDX-License-Identifier: Apache-2.0
"""The server's part of the WebSocket protocol (RFC 6455), without I/O: the key, frame headers, a parser.

Payload is passed on as it arrives, so a frame's declared length costs no memory; it is bounded nevertheless.
No extension is accepted: RFB data is already compressed, and a compressor costs 256 KiB for each session.
`systemvm.cpvm.relay` turns VNC bytes into frames.
"""

from __future__ import annotations

import base64
import codecs
import enum
import hashlib
from collections.abc import Iterator

from attrs import frozen

from systemvm.service.errors import SystemVmError

#: The subprotocol of noVNC, websockify and QEMU.
SUBPROTOCOL = "binary"

#: The longest header of a frame from a server; a buffer with this headroom needs no second copy.
HEADROOM_BYTES = 10

MAX_MESSAGE_BYTES = 1 << 20
MAX_CONTROL_BYTES = 125
MAX_REASON_BYTES = 123

_utf8_decoder = codecs.getincrementaldecoder("utf-8")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN = 0x80


class Opcode(enum.IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

    @property
    def is_control(self) -> bool:
        return self >= Opcode.CLOSE


_WHOLE_BINARY = _FIN | Opcode.BINARY
_LONGEST = 0x80 | 125  # the mask's bit, and the longest length that has no more bytes
_OPCODES = {each.value: each for each in Opcode}


class CloseCode(enum.IntEnum):
    """The RFC's close codes that this server sends; the console's own are in `refusal`."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011


class WebSocketError(SystemVmError):
    """The peer violates the protocol; `code` and the message go into the close frame."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message, code=code)
        self.code: CloseCode = code


@frozen
class DataFrame:
    """Consecutive bytes of a message, the last of it if `is_final`; a console ignores where messages end."""

    payload: bytes
    is_text: bool = False
    is_final: bool = False


@frozen
class PingFrame:
    payload: bytes


@frozen
class PongFrame:
    payload: bytes


@frozen
class CloseFrame:
    code: int | None
    reason: str


Event = DataFrame | PingFrame | PongFrame | CloseFrame


def accept_key(key: str) -> str | None:
    """Return the value of `Sec-WebSocket-Accept`, or None when `key` is not the base64 of 16 bytes."""
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            return None
    except ValueError:
        return None
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def write_binary_header(buffer: bytearray | memoryview, payload_bytes: int) -> int:
    """Write the header of a binary frame so that it ends at HEADROOM_BYTES; return where it starts."""
    if payload_bytes < 126:
        buffer[HEADROOM_BYTES - 2] = _FIN | Opcode.BINARY
        buffer[HEADROOM_BYTES - 1] = payload_bytes
        return HEADROOM_BYTES - 2
    if payload_bytes < 1 << 16:
        buffer[HEADROOM_BYTES - 4] = _FIN | Opcode.BINARY
        buffer[HEADROOM_BYTES - 3] = 126
        buffer[HEADROOM_BYTES - 2 : HEADROOM_BYTES] = payload_bytes.to_bytes(2, "big")
        return HEADROOM_BYTES - 4
    buffer[0] = _FIN | Opcode.BINARY
    buffer[1] = 127
    buffer[2:HEADROOM_BYTES] = payload_bytes.to_bytes(8, "big")
    return 0


def binary_frame(payload: bytes) -> bytes:
    header = bytearray(HEADROOM_BYTES)
    start = write_binary_header(header, len(payload))
    return bytes(header[start:]) + payload


def text_frame(payload: bytes) -> bytes:
    """Return a short message for the console's own page."""
    if len(payload) > MAX_CONTROL_BYTES:
        raise ValueError(f"message is too long: {len(payload)} bytes, the maximum is {MAX_CONTROL_BYTES}")
    return bytes((_FIN | Opcode.TEXT, len(payload))) + payload


def control_frame(opcode: Opcode, payload: bytes = b"") -> bytes:
    if not opcode.is_control or len(payload) > MAX_CONTROL_BYTES:
        raise ValueError(f"invalid control frame: {opcode!r} with {len(payload)} bytes")
    return bytes((_FIN | opcode, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; a reason that is too long is cut at a character boundary."""
    text = reason.encode("utf-8")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
    return control_frame(Opcode.CLOSE, code.to_bytes(2, "big") + text.encode("utf-8"))


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one long integer: faster than a loop over bytes."""
    count = len(payload)
    key = (mask * (count // 4 + 1))[:count]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(count, "big")


class FrameParser:
    """Parses the browser's bytes in pieces of any size; buffers at most one header or control frame."""

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES, *, accepts_text: bool = False) -> None:
        self._max_message_bytes = max_message_bytes
        self._accepts_text = accepts_text
        self._decoder: codecs.IncrementalDecoder | None = None  # of the current message, if it is text
        self._pending = b""
        self._mask = b""
        self._payload_left = 0  # of the current data frame
        self._message_bytes = 0
        self._in_message = False  # after a frame without FIN its continuation must follow
        self._final = True
        self._closed = False

    def whole_frame(self, data: bytes) -> bytes | None:
        """Return the payload when `data` is exactly one short binary message, as a key is, else None."""
        if len(data) < 6 or data[0] != _WHOLE_BINARY or len(data) != data[1] - 0x80 + 6 or data[1] > _LONGEST:
            return None
        if self._pending or self._payload_left or self._in_message or self._closed:
            return None
        return unmask(data[6:], data[2:6])

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events of these bytes; the caller must take all of them.

        Raises: WebSocketError when the peer violates the protocol, after the events before the violation.
        """
        data = self._pending + data if self._pending else data
        at = 0
        while not self._closed:
            if self._payload_left:
                taken = data[at : at + self._payload_left]
                if not taken:
                    break
                at += len(taken)
                self._payload_left -= len(taken)
                payload = unmask(taken, self._mask)
                shift = len(taken) % 4
                self._mask = self._mask[shift:] + self._mask[:shift]
                yield self._data(payload)
                continue
            used, event = self._header(data, at)
            if not used:
                break
            at += used
            if event is not None:
                yield event
        self._pending = b"" if self._closed else data[at:]

    def _header(self, data: bytes, at: int) -> tuple[int, Event | None]:
        """Parse a header or a whole control frame at `at`; return the bytes used, 0 when more are needed."""
        if len(data) - at < 2:
            return 0, None
        first, second = data[at], data[at + 1]
        if first & 0x70:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "reserved bit is set")
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        if not second & 0x80:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "frame is not masked")
        final, length = bool(first & _FIN), second & 0x7F
        if opcode >= Opcode.CLOSE:
            if not final or length > MAX_CONTROL_BYTES:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "control frame is too long or fragmented")
            end = at + 6 + length
            if len(data) < end:
                return 0, None
            return end - at, self._control(opcode, unmask(data[at + 6 : end], data[at + 2 : at + 6]))
        self._check_order(opcode)
        extended = 0 if length < 126 else 2 if length == 126 else 8
        if len(data) - at < 6 + extended:
            return 0, None
        if extended:
            length = int.from_bytes(data[at + 2 : at + 2 + extended], "big")
            if length < (126 if extended == 2 else 1 << 16) or length >> 63:
                raise WebSocketError(CloseCode.PROTOCOL_ERROR, "length is not in its shortest form")
        self._message_bytes += length
        if self._message_bytes > self._max_message_bytes:
            limit = f"message is too long: the maximum is {self._max_message_bytes} bytes"
            raise WebSocketError(CloseCode.MESSAGE_TOO_BIG, limit)
        if opcode is Opcode.TEXT:
            self._decoder = _utf8_decoder("strict")
        self._mask = data[at + 2 + extended : at + 6 + extended]
        self._final, self._payload_left, self._in_message = final, length, True
        return 6 + extended, None if length else self._data(b"")

    def _check_order(self, opcode: Opcode) -> None:
        if opcode is Opcode.TEXT and not self._accepts_text:
            raise WebSocketError(CloseCode.UNSUPPORTED_DATA, "only binary messages are supported")
        if (opcode is Opcode.CONTINUATION) != self._in_message:
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "fragments are out of order")

    def _data(self, payload: bytes) -> DataFrame:
        """Return the event of bytes whose frame still lacks `_payload_left`."""
        is_final = self._final and not self._payload_left
        is_text = self._decoder is not None
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, is_final)
            except UnicodeDecodeError:
                raise WebSocketError(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from None
        if is_final:
            self._in_message, self._message_bytes, self._decoder = False, 0, None
        return DataFrame(payload, is_text, is_final)

    def _control(self, opcode: Opcode, payload: bytes) -> Event:
        if opcode is Opcode.PING:
            return PingFrame(payload)
        if opcode is Opcode.PONG:
            return PongFrame(payload)
        self._closed = True
        if not payload:
            return CloseFrame(None, "")
        code = int.from_bytes(payload[:2], "big")
        if len(payload) == 1 or not _is_valid_close_code(code):
            raise WebSocketError(CloseCode.PROTOCOL_ERROR, "close frame has no valid code")
        try:
            return CloseFrame(code, payload[2:].decode("utf-8"))
        except UnicodeDecodeError:
            raise WebSocketError(CloseCode.INVALID_PAYLOAD, "close reason is not UTF-8") from None


def _is_valid_close_code(code: int) -> bool:
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
