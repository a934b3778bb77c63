# SPDX-License-Identifier: Apache-2.0
"""Pauses the garbage collector while a program imports its modules."""

from __future__ import annotations

import gc


def begin() -> None:
    """Stop the collector; to be called before the imports."""
    gc.disable()


def end() -> None:
    """Start the collector; it never scans the objects that exist now."""
    gc.freeze()
    gc.enable()
