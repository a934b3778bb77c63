# SPDX-License-Identifier: Apache-2.0
"""The handshake with a VM's VNC server, without I/O: RFB 3.3, 3.7 and 3.8 (RFC 6143), and VeNCrypt 0.2.

What the target has set is the least that is accepted: a server that offers less is refused, because whoever
can answer in its place would choose less (CVE-2015-3252). VeNCrypt's subtypes without a certificate are never
accepted. Every length from a server is bounded before its use.
"""

from __future__ import annotations

import enum
from collections.abc import Generator

from systemvm.cpvm.rfb import (
    PasswordRefusedError,
    PasswordUnusedError,
    ServerInit,
    TlsUnusedError,
    display_name,
)
from systemvm.service.rfb_handshake import (
    START_TLS,
    VERSION_BYTES,
    Handshake,
    RfbError,
    SecurityType,
    minor_version,
    vnc_auth_response,
)

MAX_REASON_BYTES = 4096
MAX_NAME_BYTES = 4096
MAX_CREDENTIAL_BYTES = 255

_PIXEL_FORMAT_BYTES = 16
_VENCRYPT_VERSION = b"\x00\x02"
#: ClientInit: a new client does not disconnect the others.
_SHARED = b"\x01"


class VeNCryptSubtype(enum.IntEnum):
    """The subtypes with a server certificate; 256 to 259 have none or no TLS."""

    X509_NONE = 260
    X509_VNC = 261
    X509_PLAIN = 262


class ServerHandshake(Handshake):
    """The handshake up to and including the server's ServerInit.

    Without `tls` a password means VncAuth; with it X509Vnc, or X509Plain when there is a user name, too.
    """

    def __init__(self, password: str | None, *, username: str | None = None, tls: bool = False) -> None:
        self._password = password
        self._username = username
        self._tls = tls
        self._server_init: ServerInit | None = None
        super().__init__()

    @property
    def server_init(self) -> ServerInit:
        if self._server_init is None:
            raise RuntimeError("the handshake is not done")
        return self._server_init

    def _steps(self) -> Generator[int, bytes, None]:
        minor = minor_version((yield VERSION_BYTES))
        self._output += b"RFB 003.%03d\n" % minor
        security = self._wanted()
        # What the target has set leaves no choice. So the type is sent before the server's list is read, and
        # ClientInit before the type's result: a server that does not accept them does not read on, and each
        # of them would be a round trip.
        if minor != 3:
            self._output.append(security)
        if minor != 3 and security is SecurityType.NONE:
            self._output += _SHARED
        yield from self._check_offer(minor)
        if security is SecurityType.VENCRYPT:
            yield from self._vencrypt()
        elif security is SecurityType.VNC_AUTH:
            yield from self._vnc_auth()
        if minor == 3 or security is not SecurityType.NONE:
            self._output += _SHARED
        if security is not SecurityType.NONE or minor == 8:
            yield from self._security_result(minor)
        yield from self._read_server_init()

    def _wanted(self) -> SecurityType:
        if self._tls:
            return SecurityType.VENCRYPT
        return SecurityType.NONE if self._password is None else SecurityType.VNC_AUTH

    def _check_offer(self, minor: int) -> Generator[int, bytes, None]:
        """Read the security types of the server; the wanted one must be among them."""
        if minor == 3:
            number = int.from_bytes((yield 4), "big")
            if number == 0:
                yield from self._refused()
            if self._tls:
                raise TlsUnusedError("VNC server does not offer TLS: it speaks RFB 3.3")
            self._check_types([number])
            return
        count = (yield 1)[0]
        if count == 0:
            yield from self._refused()
        self._check_types(list((yield count)))

    def _check_types(self, offered: list[int]) -> None:
        if self._wanted() in offered:
            return
        if self._tls:
            raise TlsUnusedError(f"VNC server does not offer TLS: its security types are {offered[:16]}")
        self._check_passwords_use(SecurityType.NONE in offered, SecurityType.VNC_AUTH in offered)
        raise RfbError(f"VNC server offers no supported security type: {offered[:16]}")

    def _check_passwords_use(self, offers_none: bool, offers_password: bool) -> None:
        if self._password is not None and offers_none:
            raise PasswordUnusedError("VNC server does not require the password that is set")
        if self._password is None and offers_password:
            raise PasswordRefusedError("VNC server requires a password, but none is known")

    # -- VeNCrypt

    def _vencrypt(self) -> Generator[int, bytes, None]:
        version = yield 2
        if version < _VENCRYPT_VERSION:
            raise RfbError(
                f"VeNCrypt version is not supported: {version[0]}.{version[1]}, the minimum is 0.2"
            )
        self._output += _VENCRYPT_VERSION
        if (yield 1)[0] != 0:
            raise RfbError("VNC server rejected VeNCrypt 0.2")
        count = (yield 1)[0]
        numbers = yield 4 * count
        subtype = self._acceptable_subtype(
            [int.from_bytes(numbers[at : at + 4], "big") for at in range(0, len(numbers), 4)]
        )
        self._output += subtype.to_bytes(4, "big")
        if (yield 1)[0] != 1:
            raise RfbError(f"VNC server rejected the VeNCrypt subtype that it offered: {subtype.value}")
        yield START_TLS
        if subtype is VeNCryptSubtype.X509_VNC:
            yield from self._vnc_auth()
        elif subtype is VeNCryptSubtype.X509_PLAIN:
            self._send_credentials()

    def _acceptable_subtype(self, offered: list[int]) -> VeNCryptSubtype:
        wanted = VeNCryptSubtype.X509_NONE
        if self._password is not None:
            wanted = VeNCryptSubtype.X509_PLAIN if self._username is not None else VeNCryptSubtype.X509_VNC
        if wanted not in offered:
            with_password = {VeNCryptSubtype.X509_VNC, VeNCryptSubtype.X509_PLAIN}
            self._check_passwords_use(
                VeNCryptSubtype.X509_NONE in offered, not with_password.isdisjoint(offered)
            )
            raise TlsUnusedError(f"VNC server offers no supported VeNCrypt subtype: {offered[:16]}")
        return wanted

    def _send_credentials(self) -> None:
        username, password = (self._username or "").encode(), (self._password or "").encode()
        if max(len(username), len(password)) > MAX_CREDENTIAL_BYTES:
            raise RfbError(f"user name or password is too long: the maximum is {MAX_CREDENTIAL_BYTES} bytes")
        self._output += len(username).to_bytes(4, "big") + len(password).to_bytes(4, "big")
        self._output += username + password

    # -- what all security types share

    def _vnc_auth(self) -> Generator[int, bytes, None]:
        challenge = yield 16
        self._output += vnc_auth_response(challenge, self._password or "")

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
