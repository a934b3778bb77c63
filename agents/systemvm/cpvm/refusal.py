# SPDX-License-Identifier: Apache-2.0
"""Every way in which a console can be refused or end: a close code, an HTTP status, a title and a hint."""

from __future__ import annotations

import enum

from systemvm.service.errors import SystemVmError
from systemvm.wire.console import ConsoleRefusal

_OPEN_AGAIN = "Open the console again from the cloud's page. A link works once, for a short time."
_RECONNECTS = "The console reconnects when the virtual machine runs."
_TRY_AGAIN = "Wait a moment, then press Reconnect."


class BrowserRefusal(enum.Enum):
    """(close code, HTTP status, title, hint); a title fits the 123 bytes of a close frame's reason.

    After a refusal that `is_transient` the page reconnects by itself; for other codes from 4500 on it offers
    a button.
    """

    NO_TOKEN = (4400, 400, "This address does not contain a console link", _OPEN_AGAIN)
    TOKEN_UNKNOWN = (4401, 403, "This console link is not valid", _OPEN_AGAIN)
    TOKEN_USED = (4402, 403, "This console link has already been used", _OPEN_AGAIN)
    FOREIGN_ORIGIN = (
        4403,
        403,
        "Another web site tried to open this console",
        "If you did not open it, close that site. " + _OPEN_AGAIN,
    )
    MACHINE_GONE = (
        4404,
        404,
        "This virtual machine no longer exists",
        "Choose another one on the cloud's page.",
    )
    TOKEN_EXPIRED = (4406, 403, "This console link has expired", _OPEN_AGAIN)
    TOKEN_REPLACED = (4408, 403, "A newer link to this console replaced this one", _OPEN_AGAIN)
    SESSION_ENDED = (4407, 403, "This console session has ended", _OPEN_AGAIN)
    MACHINE_STOPPED = (
        4409,
        409,
        "The virtual machine is not running",
        "Start it on the cloud's page. " + _RECONNECTS,
    )
    SCREEN_CLOSED = (
        4410,
        410,
        "The virtual machine closed its screen",
        "It might have stopped or restarted. " + _RECONNECTS,
    )
    MACHINE_STOPPING = (4411, 409, "The virtual machine is being stopped", _RECONNECTS)
    MACHINE_STARTING = (4412, 409, "The virtual machine is being started", _RECONNECTS)
    LOGGED_OUT = (4413, 403, "You logged out, and this console ended with it", _OPEN_AGAIN)
    ACCESS_REVOKED = (4414, 403, "This console was closed by the cloud's administrator", _OPEN_AGAIN)
    OTHER_ADDRESS = (4415, 403, "This console was opened from another address", _OPEN_AGAIN)
    OTHER_SOURCE = (4416, 403, "This console link was made for another address", _OPEN_AGAIN)
    EXTRA_REFUSED = (4417, 403, "The additional secret of this console link is missing or wrong", _OPEN_AGAIN)
    CONTINUED_ELSEWHERE = (
        4418,
        403,
        "This console continues in another window",
        "Close that window, or press Reconnect to continue here.",
    )
    RECONNECTING = (4419, 409, "This console is being reconnected", "Reconnecting.")
    SESSION_IDLE = (4422, 403, "This console was closed because it was not used", _OPEN_AGAIN)
    SESSION_OVER = (4423, 403, "The time of this console session is over", _OPEN_AGAIN)
    NOT_BACK = (4424, 403, "The connection was lost for too long, and the session has ended", _OPEN_AGAIN)
    TAKEN_OVER = (
        4425,
        403,
        "Another user took this console over",
        "Open the console again from the cloud's page, or ask that user.",
    )
    CLOSED = (4426, 403, "This console was closed by its owner or an administrator", _OPEN_AGAIN)
    WATCHED_ENDED = (
        4428,
        403,
        "The console that you watched has ended",
        'The cloud\'s page and "systemvm console list" show those that are open.',
    )
    SCREEN_MOVED = (4427, 409, "The virtual machine's screen has moved", "Reconnecting.")
    POWER_REFUSED = (
        4420,
        403,
        "This console may not do that to the virtual machine",
        "Look at its state, or use the cloud's page.",
    )
    SERIAL_CLOSED = (
        4430,
        410,
        "The virtual machine closed its serial port",
        "It might have stopped or restarted. " + _RECONNECTS,
    )
    WRONG_HOST = (4421, 421, "This console is served under another address", _OPEN_AGAIN)
    TOO_MANY = (
        4429,
        429,
        "Too many consoles are open",
        "Close one that you do not need, then press Reconnect.",
    )
    DRAINING = (
        4505,
        503,
        "This console proxy takes no new consoles",
        "Open the console again from the cloud's page, in a few minutes if it does not open at once.",
    )
    DRAINED = (
        4506,
        503,
        "This console proxy is being shut down",
        "Open the console again from the cloud's page, in a few minutes if it does not open at once.",
    )
    SCREEN_UNREACHABLE = (4502, 502, "The virtual machine's screen cannot be reached", _TRY_AGAIN)
    SERIAL_UNREACHABLE = (4507, 502, "The virtual machine's serial port cannot be reached", _TRY_AGAIN)
    DAEMON_AWAY = (
        4503,
        503,
        "The cloud cannot check this link now",
        "The link stays valid until it expires. " + _TRY_AGAIN,
    )
    SCREEN_SILENT = (4504, 504, "The virtual machine's screen does not answer", _TRY_AGAIN)
    PASSWORD_REFUSED = (
        4511,
        502,
        "The virtual machine's screen rejected the console's password",
        "The fault is in the cloud, not in your browser. " + _TRY_AGAIN,
    )
    PASSWORD_UNUSED = (
        4512,
        502,
        "The virtual machine's screen is not protected by its password",
        "The console stays closed until this is repaired. Report it to the cloud's operator.",
    )
    SCREEN_FAULTY = (
        4513,
        502,
        "The virtual machine's screen uses an unknown protocol",
        "Report it to the cloud's operator, with the time of day.",
    )
    SCREEN_UNENCRYPTED = (
        4514,
        502,
        "The virtual machine's screen does not offer the encryption that is set",
        "The console stays closed until this is repaired. Report it to the cloud's operator.",
    )
    SCREEN_UNTRUSTED = (
        4515,
        502,
        "The certificate of the virtual machine's screen cannot be verified",
        "The console stays closed until this is repaired. Report it to the cloud's operator.",
    )
    NOT_RECORDED = (
        4516,
        503,
        "This console must be recorded, and cannot be now",
        "Report it to the cloud's operator, then press Reconnect.",
    )

    SERIAL_UNTRUSTED = (
        4517,
        502,
        "The certificate of the virtual machine's serial port cannot be verified",
        "The console stays closed until this is repaired. Report it to the cloud's operator.",
    )

    def __init__(self, close_code: int, http_status: int, title: str, hint: str) -> None:
        self.close_code = close_code
        self.http_status = http_status
        self.title = title
        self.hint = hint

    @property
    def is_transient(self) -> bool:
        """Whether the page reconnects by itself; `TRANSIENT` of console.js lists the same codes."""
        return self in _TRANSIENT

    @classmethod
    def from_daemon(cls, reason: object) -> BrowserRefusal:
        """Return the refusal for the reason in a daemon's error; TOKEN_UNKNOWN for an unknown reason."""
        try:
            return _OF_DAEMON[ConsoleRefusal(reason)]
        except ValueError:
            return cls.TOKEN_UNKNOWN


#: Each reason of the daemon has a refusal of its own name.
_OF_DAEMON = {reason: BrowserRefusal[reason.name] for reason in ConsoleRefusal}

_TRANSIENT = frozenset(
    {
        BrowserRefusal.MACHINE_STOPPED,
        BrowserRefusal.MACHINE_STOPPING,
        BrowserRefusal.MACHINE_STARTING,
        BrowserRefusal.SCREEN_CLOSED,
        BrowserRefusal.SCREEN_UNREACHABLE,
        BrowserRefusal.SCREEN_SILENT,
        BrowserRefusal.DAEMON_AWAY,
        BrowserRefusal.RECONNECTING,
        BrowserRefusal.SCREEN_MOVED,
        BrowserRefusal.SERIAL_CLOSED,
        BrowserRefusal.SERIAL_UNREACHABLE,
    }
)


class ConsoleRefusedError(SystemVmError):
    """A console cannot be opened; `refusal` is shown in the browser, `detail` goes to the log."""

    def __init__(self, refusal: BrowserRefusal, detail: str = "") -> None:
        super().__init__(detail or refusal.title, code=refusal)
        self.hint = refusal.hint
        self.refusal = refusal
