# SPDX-License-Identifier: Apache-2.0
"""Why a call failed before or beside its handler: the `reason` in the data of an error of JSON-RPC itself."""

from __future__ import annotations

import enum


class CallFailure(enum.Enum):
    """Stable reasons, one for each code of rpc/core/errors.py; a refusal has one of its application's."""

    PARSE_ERROR = "parse-error"
    INVALID_REQUEST = "invalid-request"
    UNKNOWN_METHOD = "unknown-method"
    INVALID_PARAMETERS = "invalid-parameters"
    INTERNAL = "internal"
    FORBIDDEN = "forbidden"
    NOT_CONNECTED = "not-connected"
    DEADLINE = "deadline"
    BUSY = "busy"
