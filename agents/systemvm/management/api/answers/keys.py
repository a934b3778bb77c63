# SPDX-License-Identifier: Apache-2.0
"""Declares an attribute of an answer: its description, and its key if that is not a Python name."""

from __future__ import annotations

from typing import Any

import attrs


def optional_key(description: str, *, key: str | None = None) -> Any:
    """Declare a key that is omitted while it has no value."""
    metadata = {"description": description} | ({"key": key} if key else {})
    return attrs.field(default=None, metadata=metadata)


def required_key(description: str, *, key: str | None = None) -> Any:
    """Declare a key that every answer has."""
    metadata = {"description": description} | ({"key": key} if key else {})
    return attrs.field(metadata=metadata)
