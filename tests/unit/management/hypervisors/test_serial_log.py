# SPDX-License-Identifier: Apache-2.0
"""Each known failure on a serial console gets its exact reason and hint."""

from __future__ import annotations

import pytest

from guest_output import (
    CONSOLES,
    NAME,
    RESET,
)
from systemvm.management.hypervisors import serial_log


@pytest.mark.parametrize("case", CONSOLES)
def test_serial_log_explains_the_fault(case: str) -> None:
    written, reason, hint = CONSOLES[case]
    earlier = "Kernel panic - not syncing: of an earlier start\n"
    found = serial_log.find_error(earlier + serial_log.start_marker("2026-11-21").decode() + written, NAME)
    assert found is not None
    assert (found.reason, found.hint) == (reason, hint)


def test_serial_log_of_a_good_start_has_no_error() -> None:
    panic = "Kernel panic - not syncing: earlier\n" + serial_log.start_marker("2026-11-21").decode()
    assert serial_log.find_error(panic + RESET, NAME) is None
    assert not serial_log.is_empty(panic + RESET)
    assert serial_log.is_empty(panic)
