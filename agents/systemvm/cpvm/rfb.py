# SPDX-License-Identifier: Apache-2.0
"""The two handshakes of the Remote Framebuffer protocol (RFC 6143), without I/O.

`ServerHandshake` is the client's part towards the VM's VNC server, `BrowserHandshake` the server's part
towards the browser. After both, bytes are relayed without being parsed. Every length from a server is bounded
before its use.
"""

from __future__ import annotations

import enum
import unicodedata
import warnings
from collections.abc import Generator

from attrs import field, frozen
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.utils import CryptographyDeprecationWarning

from systemvm.service.errors import FailureCode, SystemVmError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

MAX_REASON_BYTES = 4096
MAX_NAME_BYTES = 4096
MAX_DISPLAY_NAME_CHARACTERS = 128

_VERSION_BYTES = 12
_PIXEL_FORMAT_BYTES = 16


class SecurityType(enum.IntEnum):
    NONE = 1
    VNC_AUTH = 2


class RfbError(SystemVmError):
    """The peer violates the RFB protocol."""

    code = FailureCode.PROTOCOL


class PasswordRefusedError(RfbError):
    """The VNC server rejected the password."""


class PasswordUnusedError(RfbError):
    """A password is set for the VM, but its VNC server accepts connections without one."""


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


def vnc_auth_response(challenge: bytes, password: str) -> bytes:
    """Encrypt the challenge with DES by the password's first 8 bytes, each with its bits reversed."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode("utf-8")[:8].ljust(8, b"\0"))
    # Triple DES with three equal keys is the single DES that the protocol requires.
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305 - the protocol's own
    return encryptor.update(challenge) + encryptor.finalize()


class _Handshake:
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

    def receive(self, data: bytes) -> bytes:
        """Process bytes from the peer and return the bytes to send.

        Raises: RfbError when the peer violates the protocol.
        """
        self._buffer += data
        while self._script is not None and len(self._buffer) >= self._needed:
            piece = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            try:
                self._needed = self._script.send(piece)
            except StopIteration:
                self._script = None
        output = bytes(self._output)
        self._output.clear()
        return output

    def rest(self) -> bytes:
        """Return what the peer sent after its handshake."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def _minor_version(line: bytes) -> int:
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


class ServerHandshake(_Handshake):
    """The handshake with the VM's VNC server, up to and including its ServerInit."""

    def __init__(self, password: str | None) -> None:
        self._password = password
        self._server_init: ServerInit | None = None
        super().__init__()

    @property
    def server_init(self) -> ServerInit:
        if self._server_init is None:
            raise RuntimeError("the handshake is not done")
        return self._server_init

    def _steps(self) -> Generator[int, bytes, None]:
        minor = _minor_version((yield _VERSION_BYTES))
        self._output += b"RFB 003.%03d\n" % minor
        security = yield from self._choose_security(minor)
        if security is SecurityType.VNC_AUTH:
            challenge = yield 16
            self._output += vnc_auth_response(challenge, self._password or "")
        if security is SecurityType.VNC_AUTH or minor == 8:
            yield from self._security_result(minor)
        self._output += b"\x01"  # shared: a new client does not disconnect the others
        yield from self._read_server_init()

    def _choose_security(self, minor: int) -> Generator[int, bytes, SecurityType]:
        if minor == 3:
            number = int.from_bytes((yield 4), "big")
            if number == 0:
                yield from self._refused()
            return self._acceptable([number])
        count = (yield 1)[0]
        if count == 0:
            yield from self._refused()
        security = self._acceptable(list((yield count)))
        self._output.append(security)
        return security

    def _acceptable(self, offered: list[int]) -> SecurityType:
        wanted = SecurityType.NONE if self._password is None else SecurityType.VNC_AUTH
        if wanted in offered:
            return wanted
        if wanted is SecurityType.VNC_AUTH and SecurityType.NONE in offered:
            raise PasswordUnusedError("VNC server does not require the password that is set")
        if wanted is SecurityType.NONE and SecurityType.VNC_AUTH in offered:
            raise PasswordRefusedError("VNC server requires a password, but none is known")
        raise RfbError(f"VNC server offers no supported security type: {offered[:16]}")

    def _security_result(self, minor: int) -> Generator[int, bytes, None]:
        result = int.from_bytes((yield 4), "big")
        if result == 0:
            return
        reason = (yield from self._reason()) if minor == 8 else ""
        raise PasswordRefusedError(f"VNC server rejected the password: {reason}".rstrip(": "))

    def _refused(self) -> Generator[int, bytes, None]:
        reason = yield from self._reason()
        raise RfbError(f"VNC server refused the connection: {reason}")

    def _reason(self) -> Generator[int, bytes, str]:
        length = int.from_bytes((yield 4), "big")
        if length > MAX_REASON_BYTES:
            raise RfbError(f"reason is too long: {length} bytes, the maximum is {MAX_REASON_BYTES}")
        return display_name((yield length).decode("utf-8", "replace"))

    def _read_server_init(self) -> Generator[int, bytes, None]:
        head = yield 4 + _PIXEL_FORMAT_BYTES + 4
        length = int.from_bytes(head[20:24], "big")
        if length > MAX_NAME_BYTES:
            raise RfbError(f"desktop name is too long: {length} bytes, the maximum is {MAX_NAME_BYTES}")
        name = yield length
        self._server_init = ServerInit(
            width_px=int.from_bytes(head[0:2], "big"),
            height_px=int.from_bytes(head[2:4], "big"),
            pixel_format=head[4:20],
            name=display_name(name.decode("utf-8", "replace")),
        )


class BrowserHandshake(_Handshake):
    """The handshake with the browser, which is offered only security type None: its token admitted it."""

    #: Sent first, before anything is received.
    GREETING = b"RFB 003.008\n"

    def __init__(self, server_init: bytes) -> None:
        self._server_init = server_init
        super().__init__()

    def _steps(self) -> Generator[int, bytes, None]:
        minor = _minor_version((yield _VERSION_BYTES))
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
