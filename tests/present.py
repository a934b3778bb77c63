# SPDX-License-Identifier: Apache-2.0
"""Narrow an optional value in a test where it must be there."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return the value; AssertionError when it is None."""
    assert value is not None
    return value
