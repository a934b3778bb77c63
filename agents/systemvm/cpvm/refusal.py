# SPDX-License-Identifier: Apache-2.0
"""Every way in which a console can be refused or end: a close code, an HTTP status, words for a person."""

from __future__ import annotations

import enum

from systemvm.wire.console import ConsoleRefusal

_OPEN_AGAIN = "Open the console again from the cloud's page: a link works once, and only for a short time."
_COMES_BACK = "The console comes back by itself when it runs."
_TRY_AGAIN = "Wait a moment, then press Reconnect."


class Refusal(enum.Enum):
    """(close code, HTTP status, title, hint); a title fits the 123 bytes of a close frame's reason.

    What `passes_by_itself` the page waits out; for other codes from 4500 on it offers to connect again.
    """

    NO_TOKEN = (4400, 400, "This address holds no console link", _OPEN_AGAIN)
    TOKEN_UNKNOWN = (4401, 403, "This console link is not valid", _OPEN_AGAIN)
    TOKEN_USED = (4402, 403, "This console link has already been used", _OPEN_AGAIN)
    FOREIGN_ORIGIN = (
        4403,
        403,
        "Another web site tried to open this console",
        "If that was not you, close that site. " + _OPEN_AGAIN,
    )
    MACHINE_GONE = (4404, 404, "This virtual machine no longer exists", "Choose another on the cloud's page.")
    OTHER_MACHINE = (4405, 403, "This browser was not let in to that virtual machine", _OPEN_AGAIN)
    TOKEN_EXPIRED = (4406, 403, "This console link has expired", _OPEN_AGAIN)
    TOKEN_REPLACED = (4408, 403, "A newer link to this console replaced this one", _OPEN_AGAIN)
    SESSION_ENDED = (4407, 403, "This console session has ended", _OPEN_AGAIN)
    MACHINE_STOPPED = (
        4409,
        409,
        "The virtual machine is not running",
        "Start it on the cloud's page. " + _COMES_BACK,
    )
    SCREEN_CLOSED = (
        4410,
        410,
        "The virtual machine closed its screen",
        "It may have stopped or restarted. " + _COMES_BACK,
    )
    MACHINE_STOPPING = (4411, 409, "The virtual machine is being stopped", _COMES_BACK)
    MACHINE_STARTING = (4412, 409, "The virtual machine is being started", _COMES_BACK)
    LOGGED_OUT = (4413, 403, "You logged out, and this console ended with it", _OPEN_AGAIN)
    ACCESS_REVOKED = (4414, 403, "This console was closed by the cloud's administrator", _OPEN_AGAIN)
    OTHER_ADDRESS = (4415, 403, "This console was opened from another address", _OPEN_AGAIN)
    WRONG_HOST = (4421, 421, "This console is served under another address", _OPEN_AGAIN)
    TOO_MANY = (
        4429,
        429,
        "Too many consoles are open",
        "Close one that is not needed, then press Reconnect.",
    )
    SCREEN_UNREACHABLE = (4502, 502, "The virtual machine's screen cannot be reached", _TRY_AGAIN)
    DAEMON_AWAY = (
        4503,
        503,
        "The cloud cannot be asked just now",
        "Nobody is let in without its word; the link stays good until it expires. " + _TRY_AGAIN,
    )
    SCREEN_SILENT = (4504, 504, "The virtual machine's screen does not answer", _TRY_AGAIN)
    PASSWORD_REFUSED = (
        4511,
        502,
        "The virtual machine's screen refused the console's password",
        "This is a fault of the cloud, not yours. " + _TRY_AGAIN,
    )
    PASSWORD_UNUSED = (
        4512,
        502,
        "The virtual machine's screen is open without its password",
        "The console stays out until this is mended: tell the cloud's operator.",
    )
    SCREEN_FAULTY = (
        4513,
        502,
        "The virtual machine's screen speaks no known protocol",
        "Tell the cloud's operator, with the time of day.",
    )

    def __init__(self, close_code: int, http_status: int, title: str, hint: str) -> None:
        self.close_code = close_code
        self.http_status = http_status
        self.title = title
        self.hint = hint

    @property
    def passes_by_itself(self) -> bool:
        """Whether the page connects again by itself; `WAITS` of console.js lists the same codes."""
        return self in _PASSING

    @classmethod
    def from_daemon(cls, reason: object) -> Refusal:
        """Of the daemon's REFUSED error; a reason that this release does not know still keeps people out."""
        try:
            return _OF_DAEMON[ConsoleRefusal(reason)]
        except ValueError:
            return cls.TOKEN_UNKNOWN


#: Each reason of the daemon has a refusal of its own name.
_OF_DAEMON = {reason: Refusal[reason.name] for reason in ConsoleRefusal}

_PASSING = frozenset(
    {
        Refusal.MACHINE_STOPPED,
        Refusal.MACHINE_STOPPING,
        Refusal.MACHINE_STARTING,
        Refusal.SCREEN_CLOSED,
        Refusal.SCREEN_UNREACHABLE,
        Refusal.SCREEN_SILENT,
        Refusal.DAEMON_AWAY,
    }
)


class RefusedError(Exception):
    """Raised where a console cannot go on; `refusal` is what the person at the browser is told."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(detail or refusal.title)
        self.refusal = refusal
