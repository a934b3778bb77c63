# SPDX-License-Identifier: Apache-2.0
"""Parses QEMU's standard error after a failed start, for which QEMU has no codes."""

from __future__ import annotations


def is_port_taken(text: str) -> bool:
    """Return whether QEMU did not start because another program has bound its VNC port."""
    return "Address already in use" in text
