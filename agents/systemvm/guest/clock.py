# SPDX-License-Identifier: Apache-2.0
"""Corrects the clock at boot by the time in the boot arguments, in case the RTC is wrong.

TLS needs a correct clock before the daemon can report a wrong one, so this happens before the network is up.
Small differences are left to the daemon.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.wire import boot_arguments

#: A smaller difference does not affect certificates, which are backdated by an hour.
TOLERATED_S = 60.0


def corrected_time(arguments: Mapping[str, str], now_s: float, since_s: float) -> float | None:
    """Return the UNIX time to set, or None when `clock=` is missing or the difference is tolerated.

    `since_s` is how long ago `clock=` was correct: since QEMU started (about CLOCK_BOOTTIME) for a
    credential, since the host wrote it for a file.

    Raises: BootError when the value is not a UNIX time.
    """
    text = arguments.get(boot_arguments.CLOCK)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise boot_argument_error(
            f"{boot_arguments.CLOCK}={text[:20]!r} is not a UNIX time", "give seconds since 1970 in UTC"
        )
    correct_s = int(text) + since_s
    return correct_s if abs(correct_s - now_s) > TOLERATED_S else None


def uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def set_clock(unix_s: float) -> None:
    """Set the system clock.

    Raises: OSError without CAP_SYS_TIME.
    """
    time.clock_settime(time.CLOCK_REALTIME, unix_s)
