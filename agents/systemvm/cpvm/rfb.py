# SPDX-License-Identifier: Apache-2.0
"""The Remote Framebuffer protocol (RFC 6143) without I/O: its messages, and the handshake with a browser.

`ServerHandshake` (server_handshake.py) is the client's part towards the VM's VNC server, `BrowserHandshake`
the server's part towards the browser. After both, bytes are relayed without being parsed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Generator

from attrs import field, frozen

from systemvm.service.rfb_handshake import VERSION_BYTES, Handshake, RfbError, SecurityType, minor_version

MAX_DISPLAY_NAME_CHARACTERS = 128
_SECURITY_OK = bytes(4)


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
    if text.isprintable():  # as almost every name is
        return " ".join(text.split())[:MAX_DISPLAY_NAME_CHARACTERS] or "console"
    spaced = "".join(" " if unicodedata.category(char) in ("Zl", "Zp", "Cc") else char for char in text)
    visible = "".join(char for char in spaced if not unicodedata.category(char).startswith("C"))
    return " ".join(visible.split())[:MAX_DISPLAY_NAME_CHARACTERS] or "console"


class BrowserHandshake(Handshake):
    """The handshake with the browser, which is offered only security type None: its token admitted it.

    Only the browser's version can change an answer. So the result of choosing None is sent with the list of
    types, and ServerInit can follow as soon as `may_get_server_init`: what is not waited for saves a round
    trip. The handshake ends with ClientInit.
    """

    #: Sent first, before anything is received.
    GREETING = b"RFB 003.008\n"

    may_get_server_init = False

    def _steps(self) -> Generator[int, bytes, None]:
        minor = minor_version((yield VERSION_BYTES))
        if minor == 3:
            self._output += int(SecurityType.NONE).to_bytes(4, "big")
        else:
            self._output += bytes((1, SecurityType.NONE))
        if minor == 8:
            self._output += _SECURITY_OK
        self.may_get_server_init = True
        if minor != 3 and (yield 1)[0] != SecurityType.NONE:
            raise RfbError("browser chose a security type that was not offered")
        yield 1  # ClientInit: `shared` was already sent to the VNC server
