# SPDX-License-Identifier: Apache-2.0
"""How an attribute of an answer is declared: a description, and the key where Python's naming differs."""

from __future__ import annotations

from typing import Any

import attrs


def optional_key(description: str, *, key: str | None = None) -> Any:
    """An optional key: left out of the answer while it has no value."""
    metadata = {"description": description} | ({"key": key} if key else {})
    return attrs.field(default=None, metadata=metadata)


def required_key(description: str, *, key: str | None = None) -> Any:
    """A key that is in every answer."""
    metadata = {"description": description} | ({"key": key} if key else {})
    return attrs.field(metadata=metadata)
