# SPDX-License-Identifier: Apache-2.0
"""Removes the queries that a terminal would answer by itself, as if the user had typed the answer.

What a serial port showed before is shown again, and its programs' queries are long over; and of several
consoles of a port one answers. The console's page suppresses the same (`CSI_QUERIES` of terminal.js).
"""

from __future__ import annotations

import re

#: A sequence whose end has not come is held back up to this length, then shown as it is.
_MAX_HELD_BYTES = 256

_ENQUIRY = rb"\x05"
_CSI = rb"\x1b\[(?:\??[0-9;]*n|[>=]?[0-9;]*c|>[0-9;]*q|\??[0-9;]*\$p|[0-9;]*t)"
_DCS = rb"\x1bP[0-9;]*[$+]q[^\x1b\x07]*(?:\x1b\\|\x07)"
_OSC = rb"\x1b\](?:4|10|11|12);[^\x1b\x07]*\?(?:\x1b\\|\x07)"
_QUERY = re.compile(b"|".join((_ENQUIRY, _CSI, _DCS, _OSC)))
#: The beginning of any sequence, at the end of the bytes.
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;?>=$]*|[P\]][^\x1b\x07]*\x1b?)?\Z")


class QueryFilter:
    """Passes a terminal's output in pieces of any size; removes queries while it `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data, self._held = self._held + data, b""
        if not self.is_on:
            return data
        data = _QUERY.sub(b"", data)
        begun = _BEGUN.search(data)
        if begun is not None and len(data) - begun.start() <= _MAX_HELD_BYTES:
            data, self._held = data[: begun.start()], data[begun.start() :]
        return data
