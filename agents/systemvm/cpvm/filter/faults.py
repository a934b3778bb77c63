# SPDX-License-Identifier: Apache-2.0
"""Why a filtered console ends: the peer sent what the filter cannot follow."""

from __future__ import annotations

import enum

from systemvm.service.errors import FailureCode, SystemVmError


class FilterFault(enum.Enum):
    """What a peer did; the value is what logs show."""

    UNKNOWN_MESSAGE = "unknown message"
    UNKNOWN_ENCODING = "unknown encoding"
    TOO_LONG = "too long"
    MALFORMED = "malformed"
    PIXEL_FORMAT = "pixel format"
    TRUNCATED = "truncated"


class FilterError(SystemVmError):
    """The stream cannot be followed any further, so that nothing of it may be passed."""

    def __init__(self, fault: FilterFault, message: str) -> None:
        super().__init__(message, code=FailureCode.PROTOCOL)
        self.fault = fault
