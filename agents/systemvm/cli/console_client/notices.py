# SPDX-License-Identifier: Apache-2.0
"""What a console proxy tells the client itself, as short JSON texts; the console's page gets the same."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str) -> dict[str, Any]:
    """Return a notice; an empty one when it is of a form that only newer clients know."""
    try:
        notice = json.loads(text)
    except ValueError:
        return {}
    return notice if isinstance(notice, dict) else {}


def sentence(notice: dict[str, Any]) -> str | None:
    """Return what the user must know, if anything."""
    match notice.get("notice"):
        case "idle":
            return f"this console closes in {_seconds(notice)} s because it is not used"
        case "over":
            return f"this console closes in {_seconds(notice)} s because the time of its session is over"
        case "watched":
            return "an administrator watches this console"
        case "unwatched":
            return "nobody watches this console any more"
        case "unrecorded":
            return "this console is no longer recorded"
    return None


def _seconds(notice: dict[str, Any]) -> int:
    left = notice.get("ends_in_s", 0)
    return int(left) if isinstance(left, (int, float)) else 0
