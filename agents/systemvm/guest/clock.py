# SPDX-License-Identifier: Apache-2.0
"""The clock at boot: the boot arguments say what time it is, in case the RTC is wrong.

TLS needs a right clock before anything can tell that it is wrong, so this comes before the network. Small
differences are left alone; the daemon looks at those.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.wire import boot_arguments

#: Seconds; below this no certificate's validity is in doubt (they are backdated an hour).
TOLERATED_S = 60.0


def corrected_time(arguments: Mapping[str, str], now_s: float, since_s: float) -> float | None:
    """What the clock is to be set to, None when it is right enough or nobody said; BootError for nonsense.

    `since_s`: how long ago `clock` was true. In a credential that was when QEMU was started, which
    CLOCK_BOOTTIME counts from, near enough; in a file that the host wrote, when it was written.
    """
    text = arguments.get(boot_arguments.CLOCK)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise boot_argument_error(
            f"{boot_arguments.CLOCK}={text[:20]!r} is no UNIX time", "seconds since 1970, in UTC"
        )
    right_s = int(text) + since_s
    return right_s if abs(right_s - now_s) > TOLERATED_S else None


def uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def set_clock(unix_s: float) -> None:
    """Needs CAP_SYS_TIME; OSError otherwise."""
    time.clock_settime(time.CLOCK_REALTIME, unix_s)
