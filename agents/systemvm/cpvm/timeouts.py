# SPDX-License-Identifier: Apache-2.0
"""When a console's time is over, and when its user is warned; and what counts as use.

Only input of the user is use: a clock or a cursor that the machine draws by itself keeps no console open.
"""

from __future__ import annotations

import math
import re

from attrs import frozen

from systemvm.cpvm.grants import Grant
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.wire.console import SessionLimits

_UPDATE_REQUEST = 3  # RFB's FramebufferUpdateRequest
_UPDATE_REQUEST_BYTES = 10
#: What a terminal answers to queries of programs: cursor and status, kind, modes, size, settings, colours.
_TERMINAL_ANSWERS = re.compile(
    rb"(?:\x1b\[[?>=]?[\d;]*(?:[Rcnt]|\$y)"
    rb"|\x1bP[^\x1b]*\x1b\\"
    rb"|\x1b\]\d+;[^\x07\x1b]*(?:\x07|\x1b\\))+"
)


@frozen
class Timeout:
    """The next end of a session."""

    at_s: float
    refusal: BrowserRefusal

    def is_due(self, now_s: float) -> bool:
        return self.at_s <= now_s


def next_timeout(grant: Grant, limits: SessionLimits) -> Timeout:
    """Return the end that comes first: without input, or of the whole session."""
    over = Timeout(grant.expires_at_s, BrowserRefusal.SESSION_OVER)
    if limits.idle_timeout_s <= 0 or grant.session.watches:
        return over  # who watches sends no input
    idle = Timeout(grant.input_at_s + limits.idle_timeout_s, BrowserRefusal.SESSION_IDLE)
    return min(idle, over, key=lambda timeout: timeout.at_s)


def notice(grant: Grant, limits: SessionLimits, now_s: float) -> dict[str, object] | None:
    """Return what its page must be told now, if anything: a warning, or that one no longer holds."""
    timeout = next_timeout(grant, limits)
    left_s = timeout.at_s - now_s
    warns = limits.warning_s > 0 and left_s <= limits.warning_s
    kind = timeout.refusal.name if warns else ""
    if kind == grant.warned:
        return None
    grant.warned = kind
    if not warns:
        return {"notice": "used"}
    idle = timeout.refusal is BrowserRefusal.SESSION_IDLE
    return {"notice": "idle" if idle else "over", "ends_in_s": max(0, math.ceil(left_s))}


def is_input(payload: bytes) -> bool:
    """Return whether bytes of a browser are anything but requests for the screen, which noVNC sends itself.

    noVNC sends whole messages. Another client's halves of a request count as input: no console that is used
    is closed.
    """
    requests, rest = divmod(len(payload), _UPDATE_REQUEST_BYTES)
    return bool(rest) or payload[::_UPDATE_REQUEST_BYTES].count(_UPDATE_REQUEST) != requests


def is_typed(payload: bytes) -> bool:
    """Return whether bytes for a serial port are anything but a terminal's answers to a program.

    A machine that asks for the cursor again and again keeps no console open. Shift-F3 alone looks like an
    answer.
    """
    return _TERMINAL_ANSWERS.fullmatch(payload) is None
