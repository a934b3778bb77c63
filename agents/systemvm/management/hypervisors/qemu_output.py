# SPDX-License-Identifier: Apache-2.0
"""What QEMU writes on its standard error when it does not start; it has no codes for it."""

from __future__ import annotations


def is_port_taken(text: str) -> bool:
    """Whether QEMU did not start because another program has the port of its screen."""
    return "Address already in use" in text
