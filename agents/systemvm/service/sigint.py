# SPDX-License-Identifier: Apache-2.0
"""Makes SIGINT end a program however it was started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress


def restore_sigint() -> None:
    """Have SIGINT raise KeyboardInterrupt again; call it in the main thread, before a reactor runs.

    A shell without job control, such as that of a script, starts a background job (`make test &`) with SIGINT
    ignored (POSIX 2.11), and children inherit that. Python then installs no handler, nor does Twisted,
    which replaces only Python's: the program would end by SIGTERM only.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_until_sigint(work: Callable[[], object]) -> None:
    """Do as `restore_sigint`, call `work`, and return without an error when SIGINT comes.

    It can come at once: also before a reactor that `work` runs has a handler of its own.
    """
    with suppress(KeyboardInterrupt):
        restore_sigint()
        work()
