# SPDX-License-Identifier: Apache-2.0
"""Shortens the pauses that Python's interpreter makes in the reactor's thread."""

from __future__ import annotations

import gc
import sys

#: After how long the reactor asks a thread for the interpreter, which gives it up between steps of Python
#: code and not within a call of C code. Python's own 5 ms pass several times in a request.
SWITCH_INTERVAL_S = 0.001

#: New objects until the collector looks at them, and how often it does so until it looks at older ones and at
#: all. A look at all takes 40 ms with many kept rows: Python's own 700, 10 and 10 pass every 2,000 requests.
COLLECT_AFTER = (10_000, 10, 20)


def shorten() -> None:
    """Call it when the daemon has started: the collector never scans the objects that exist now.

    There are half a million, and a scan of all takes 0.1 s, in which no request is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
