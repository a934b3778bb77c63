# SPDX-License-Identifier: Apache-2.0
"""What clipboard messages pass: cut text, and the extended clipboard that TigerVNC, QEMU and noVNC speak.

An extended message begins with a word of actions and formats. `caps` states which actions its sender
accepts, `notify` and `provide` bring its sender's text, `request` and `peek` ask for the receiver's.
"""

from __future__ import annotations

import enum

#: As QEMU: it ends the connection of a client that sends more.
MAX_CUT_TEXT_BYTES = 1 << 20
EXTENDED_FLAGS_BYTES = 4


class Action(enum.IntFlag):
    CAPS = 1 << 24
    REQUEST = 1 << 25
    PEEK = 1 << 26
    NOTIFY = 1 << 27
    PROVIDE = 1 << 28


_BRINGS = Action.NOTIFY | Action.PROVIDE
_ASKS = Action.REQUEST | Action.PEEK
_ACTIONS = 0xFF00_0000


def extended_verdict(flags: int, *, may_send: bool, may_receive: bool) -> int | None:
    """Return the flags to pass in the message's place, or None to drop it.

    `may_send` says whether text may go the way of the message, `may_receive` whether it may come back.
    """
    if flags & Action.CAPS:
        refused = (0 if may_send else int(_ASKS)) | (0 if may_receive else int(_BRINGS))
        return flags & ~refused if may_send or may_receive else None
    allowed = (int(_BRINGS) if may_send else 0) | (int(_ASKS) if may_receive else 0)
    return None if flags & _ACTIONS & ~allowed else flags
