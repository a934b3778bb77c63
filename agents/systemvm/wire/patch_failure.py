# SPDX-License-Identifier: Apache-2.0
"""Why a system VM goes on with its old agent: the `reason` of patch.py's `{"step": "undone"}`."""

from __future__ import annotations

import enum


class PatchFailure(enum.Enum):
    """Stable reasons. guest/patch.py is sent to guests by itself and has these values as text."""

    BAD_BUNDLE = "bad-bundle"
    WRONG_ROLE = "wrong-role"
    IMAGE_TOO_OLD = "image-too-old"  # the image lacks a distribution that the new agent imports
    CANNOT_WRITE = "cannot-write"
    COMMAND_FAILED = "command-failed"
    AGENT_DOES_NOT_START = "agent-does-not-start"
    NOT_CONFIRMED = "not-confirmed"  # the daemon did not send `keep`
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"
