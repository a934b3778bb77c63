# SPDX-License-Identifier: Apache-2.0
"""Encodings and pseudo-encodings of RFB, and which of them a browser may announce through the filter.

A VNC server sends nothing that was not announced, except Raw. So an encoding that the filter cannot follow is
removed from SetEncodings, and never arrives.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Encoding(enum.IntEnum):
    """IANA's numbers of RFC 6143 section 8.4.2, and those of QEMU and TightVNC."""

    RAW = 0
    COPY_RECT = 1
    RRE = 2
    HEXTILE = 5
    ZLIB = 6
    TIGHT = 7
    ZRLE = 16
    DESKTOP_SIZE = -223
    LAST_RECT = -224
    CURSOR = -239
    POINTER_TYPE_CHANGE = -257
    QEMU_EXTENDED_KEY_EVENT = -258
    QEMU_AUDIO = -259
    TIGHT_PNG = -260
    LED_STATE = -261
    DESKTOP_NAME = -307
    EXTENDED_DESKTOP_SIZE = -308
    XVP = -309
    FENCE = -312
    CONTINUOUS_UPDATES = -313
    EXTENDED_MOUSE_BUTTONS = -316
    VMWARE_CURSOR = 0x574D5664
    EXTENDED_CLIPBOARD = 0xC0A1E5CE - (1 << 32)


#: Rectangles whose content depends on zlib streams that began with the session: a recording without them can
#: be played from any full update.
STATEFUL = frozenset({Encoding.ZLIB, Encoding.TIGHT, Encoding.ZRLE})

_FOLLOWED = frozenset(Encoding) - {Encoding.QEMU_AUDIO, Encoding.EXTENDED_MOUSE_BUTTONS}

#: Levels of quality, compression, JPEG quality and subsampling: hints that bring no rectangle.
_HINTS = (range(-32, -22), range(-256, -246), range(-512, -411), range(-768, -762))


def is_followed(encoding: int) -> bool:
    """Return whether the filter can follow what a server sends for an announced encoding.

    >>> is_followed(Encoding.TIGHT), is_followed(-26), is_followed(50)
    (True, True, False)
    """
    return encoding in _FOLLOWED or any(encoding in hints for hints in _HINTS)


@enum.unique
class Announced(enum.Enum):
    """Which encodings pass, by what the filter does with the server's messages."""

    #: The server is not followed. A pointer event has one length only while this extension is off.
    UNREAD = frozenset({Encoding.EXTENDED_MOUSE_BUTTONS})
    FOLLOWED = frozenset({Encoding.EXTENDED_MOUSE_BUTTONS, Encoding.QEMU_AUDIO})
    SEEKABLE = frozenset({Encoding.EXTENDED_MOUSE_BUTTONS, Encoding.QEMU_AUDIO, *STATEFUL})


def permitted(encodings: Iterable[int], announced: Announced, withheld: frozenset[Encoding]) -> list[int]:
    """Return the encodings that may be announced, in their order of preference."""
    removed = announced.value | withheld
    unread = announced is Announced.UNREAD
    return [each for each in encodings if each not in removed and (unread or is_followed(each))]
