# SPDX-License-Identifier: Apache-2.0
"""The garbage collector pauses while an agent imports its modules."""

from __future__ import annotations

import gc

from systemvm.guest import gc_pause


def test_the_garbage_collector_runs_after_the_imports() -> None:
    try:
        gc_pause.begin()
        assert not gc.isenabled()
        gc_pause.end()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.enable()
