# SPDX-License-Identifier: Apache-2.0
"""SIGINT ends a program of ours however it was started."""

from __future__ import annotations

import signal


def restore_sigint() -> None:
    """Have SIGINT raise KeyboardInterrupt again; for the main thread, before a reactor is run.

    A shell without job control, as a script's is, starts a background job (`make test &`) with SIGINT ignored
    (POSIX 2.11), and children inherit that. Python then installs no handler of its own, and Twisted, which
    replaces that one alone, none either: the program could be ended by SIGTERM only.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
