# SPDX-License-Identifier: Apache-2.0
"""Pauses of the interpreter are short once the daemon has started."""

from __future__ import annotations

import gc
import sys

from systemvm.management import interpreter_pauses


def test_what_exists_is_never_scanned_and_the_reactor_asks_for_the_interpreter_after_a_millisecond() -> None:
    before_s, before = sys.getswitchinterval(), gc.get_threshold()
    try:
        interpreter_pauses.shorten()
        assert gc.isenabled() and gc.get_freeze_count() > 0
        assert gc.get_threshold() == interpreter_pauses.COLLECT_AFTER
        assert sys.getswitchinterval() == interpreter_pauses.SWITCH_INTERVAL_S
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
        sys.setswitchinterval(before_s)
