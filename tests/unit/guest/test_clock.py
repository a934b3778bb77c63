# SPDX-License-Identifier: Apache-2.0
"""The clock at boot, from the boot arguments."""

from __future__ import annotations

import pytest

from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.clock import corrected_time

STARTED_S = 1_800_000_000
DAY_S = 86400.0


@pytest.mark.parametrize("off_s", [-DAY_S, DAY_S, -61.0, 61.0, -30 * 365 * DAY_S])
def test_a_wrong_clock_is_corrected_by_the_start_time_plus_the_time_since(off_s: float) -> None:
    true_s = STARTED_S + 20.0
    assert corrected_time({"clock": str(STARTED_S)}, true_s + off_s, 20.0) == true_s


@pytest.mark.parametrize("off_s", [0.0, 59.0, -59.0])
def test_a_small_difference_is_tolerated(off_s: float) -> None:
    assert corrected_time({"clock": str(STARTED_S)}, STARTED_S + 20.0 + off_s, 20.0) is None


def test_without_a_time_nothing_is_set() -> None:
    assert corrected_time({}, 0.0, 5.0) is None


@pytest.mark.parametrize("text", ["yesterday", "-5", "1e9", "999999999999", "١٢٣"])
def test_a_value_that_is_not_a_unix_time_is_an_error(text: str) -> None:
    with pytest.raises(BootError, match="not a UNIX time"):
        corrected_time({"clock": text}, 0.0, 5.0)
