# SPDX-License-Identifier: Apache-2.0
"""Both RFB handshakes of the bridge, without I/O: with the console proxy, and with the operator's viewer.

Another user of the host can connect to a TCP port of it, so a viewer there needs the bridge's password
(VncAuth, RFC 6143 7.2.2). It is random, and used on loopback only.
"""

from __future__ import annotations

import hmac
import secrets
import string
from collections.abc import Generator

from systemvm.service.rfb_handshake import (
    VERSION_BYTES,
    Handshake,
    RfbError,
    SecurityType,
    minor_version,
    vnc_auth_response,
)

GREETING = b"RFB 003.008\n"
#: VncAuth uses no more characters.
_PASSWORD_CHARACTERS = 8
_CHALLENGE_BYTES = 16
_INIT_BYTES = 24
_MAX_NAME_BYTES = 4096
_WRONG = b"wrong password"


def new_password() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_PASSWORD_CHARACTERS))


class ScreenHandshake(Handshake):
    """The viewer's part towards the console proxy, which offers type None: its token admitted us."""

    server_init = b""

    def _steps(self) -> Generator[int, bytes, None]:
        if minor_version((yield VERSION_BYTES)) != 8:
            raise RfbError("console proxy does not speak RFB 3.8")
        self._output += GREETING
        types = yield (yield 1)[0]
        if SecurityType.NONE not in types:
            raise RfbError(f"console proxy offers no supported security type: {list(types[:16])}")
        self._output.append(SecurityType.NONE)
        if (yield 4) != bytes(4):
            raise RfbError("console proxy refused the connection")
        self._output += b"\x01"  # ClientInit: shared, as the console's page
        head = yield _INIT_BYTES
        length = int.from_bytes(head[20:], "big")
        if length > _MAX_NAME_BYTES:
            raise RfbError(f"desktop name is too long: {length} bytes, the maximum is {_MAX_NAME_BYTES}")
        self.server_init = head + (yield length)


class ViewerHandshake(Handshake):
    """The server's part towards a viewer, up to its ClientInit; without a password any viewer is admitted."""

    def __init__(self, password: str | None) -> None:
        self.is_refused = False  # by its password; the output says so
        self._password = password
        super().__init__()

    def _steps(self) -> Generator[int, bytes, None]:
        minor = minor_version((yield VERSION_BYTES))
        security = SecurityType.NONE if self._password is None else SecurityType.VNC_AUTH
        if minor == 3:
            self._output += int(security).to_bytes(4, "big")
        else:
            self._output += bytes((1, security))
            if (yield 1)[0] != security:
                raise RfbError("viewer chose a security type that was not offered")
        if self._password is not None:
            challenge = secrets.token_bytes(_CHALLENGE_BYTES)
            self._output += challenge
            response = yield _CHALLENGE_BYTES
            if not hmac.compare_digest(response, vnc_auth_response(challenge, self._password)):
                self._refuse(minor)
                return
        if minor == 8 or self._password is not None:
            self._output += bytes(4)
        yield 1  # ClientInit: whether others see the screen is decided by the console's session

    def _refuse(self, minor: int) -> None:
        self.is_refused = True
        self._output += b"\0\0\0\x01"
        if minor == 8:
            self._output += len(_WRONG).to_bytes(4, "big") + _WRONG
