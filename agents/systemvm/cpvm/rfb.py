# SPDX-License-Identifier: Apache-2.0
"""The Remote Framebuffer protocol (RFC 6143) without I/O: its messages, and the handshake with a browser.

`ServerHandshake` (server_handshake.py) is the client's part towards the VM's VNC server, `BrowserHandshake`
the server's part towards the browser. After both, bytes are relayed without being parsed.
"""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Generator

from attrs import field, frozen

from systemvm.service.errors import FailureCode, SystemVmError

MAX_DISPLAY_NAME_CHARACTERS = 128
VERSION_BYTES = 12

#: What a handshake yields instead of a number of bytes: the next bytes come through TLS.
START_TLS = -1


class SecurityType(enum.IntEnum):
    NONE = 1
    VNC_AUTH = 2
    VENCRYPT = 19


class RfbError(SystemVmError):
    """The peer violates the RFB protocol."""

    code = FailureCode.PROTOCOL


class PasswordRefusedError(RfbError):
    """The VNC server rejected the password."""


class PasswordUnusedError(RfbError):
    """A password is set for the VM, but its VNC server accepts connections without one."""


class TlsUnusedError(RfbError):
    """TLS is set for the VM, but its VNC server does not offer it with a certificate."""


@frozen
class ServerInit:
    """The VNC server's ServerInit message (RFC 6143 7.3.2)."""

    width_px: int
    height_px: int
    pixel_format: bytes = field(repr=False)
    name: str

    def encode(self, name: str) -> bytes:
        """Encode the message with another name, because the owner of the guest controls the server's."""
        text = display_name(name).encode("utf-8")
        size = self.width_px.to_bytes(2, "big") + self.height_px.to_bytes(2, "big")
        return size + self.pixel_format + len(text).to_bytes(4, "big") + text


def display_name(text: str) -> str:
    """Return `text` as a title: one line of bounded length without control or format characters."""
    spaced = "".join(" " if unicodedata.category(char) in ("Zl", "Zp", "Cc") else char for char in text)
    visible = "".join(char for char in spaced if not unicodedata.category(char).startswith("C"))
    return " ".join(visible.split())[:MAX_DISPLAY_NAME_CHARACTERS] or "console"


class Handshake:
    """Runs a generator that yields how many bytes it needs next, and collects its output."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._output = bytearray()
        self._script: Generator[int, bytes, None] | None = self._steps()
        self._needed = next(self._script)

    def _steps(self) -> Generator[int, bytes, None]:
        raise NotImplementedError

    @property
    def done(self) -> bool:
        return self._script is None

    @property
    def needs_tls(self) -> bool:
        """Whether TLS must be started now, after all output was sent; then call `tls_started`."""
        return self._script is not None and self._needed == START_TLS

    def tls_started(self) -> bytes:
        """Continue with bytes that come through TLS; return the bytes to send."""
        if not self.needs_tls:
            raise RuntimeError("the handshake does not need TLS now")
        self._advance(b"")
        return self.receive(b"")

    def receive(self, data: bytes) -> bytes:
        """Process bytes from the peer and return the bytes to send.

        Raises: RfbError when the peer violates the protocol.
        """
        self._buffer += data
        while self._script is not None and not self.needs_tls and len(self._buffer) >= self._needed:
            piece = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            self._advance(piece)
        if self.needs_tls and self._buffer:
            # they would count as received through TLS
            raise RfbError("peer sent bytes before TLS was started")
        output = bytes(self._output)
        self._output.clear()
        return output

    def _advance(self, piece: bytes) -> None:
        if self._script is not None:
            try:
                self._needed = self._script.send(piece)
            except StopIteration:
                self._script = None

    def rest(self) -> bytes:
        """Return what the peer sent after its handshake."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def minor_version(line: bytes) -> int:
    """Return 3, 7 or 8 for `RFB 003.008\\n`; other minors of 3 mean 3.3 (RFC 6143 7.1.1), newer ones 3.8."""
    if not (line.startswith(b"RFB ") and line.endswith(b"\n") and line[7:8] == b"."):
        raise RfbError("invalid RFB version")
    major_text, minor_text = line[4:7], line[8:11]
    if not (major_text.isdigit() and minor_text.isdigit()):
        raise RfbError("invalid RFB version")
    major, minor = int(major_text), int(minor_text)
    if major < 3:
        raise RfbError(f"RFB version {major}.{minor} is not supported: the minimum is 3.3")
    if major > 3 or minor >= 8:
        return 8
    return 7 if minor == 7 else 3


class BrowserHandshake(Handshake):
    """The handshake with the browser, which is offered only security type None: its token admitted it."""

    #: Sent first, before anything is received.
    GREETING = b"RFB 003.008\n"

    def __init__(self, server_init: bytes) -> None:
        self._server_init = server_init
        super().__init__()

    def _steps(self) -> Generator[int, bytes, None]:
        minor = minor_version((yield VERSION_BYTES))
        if minor == 3:
            self._output += int(SecurityType.NONE).to_bytes(4, "big")
        else:
            self._output += bytes((1, SecurityType.NONE))
            if (yield 1)[0] != SecurityType.NONE:
                raise RfbError("browser chose a security type that was not offered")
        if minor == 8:
            self._output += bytes(4)
        yield 1  # ClientInit: `shared` was already sent to the VNC server
        self._output += self._server_init
