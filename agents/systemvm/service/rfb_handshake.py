# SPDX-License-Identifier: Apache-2.0
"""What both sides of a handshake of the Remote Framebuffer protocol (RFC 6143) share, without I/O."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Generator

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.utils import CryptographyDeprecationWarning

from systemvm.service.errors import FailureCode, SystemVmError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

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

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of the peer are not processed yet."""
        return len(self._buffer)

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


def vnc_auth_response(challenge: bytes, password: str) -> bytes:
    """Encrypt the challenge with DES by the password's first 8 bytes, each with its bits reversed."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode("utf-8")[:8].ljust(8, b"\0"))
    # Triple DES with three equal keys is the single DES that the protocol requires.
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305 - the protocol's own
    return encryptor.update(challenge) + encryptor.finalize()
