# SPDX-License-Identifier: Apache-2.0
"""The exception that crosses the wire, and its codes."""

from __future__ import annotations

import enum
from typing import Any

from systemvm.service.errors import SystemVmError
from systemvm.wire.call_failure import CallFailure

# JSON-RPC 2.0's own codes.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603

# From the range that the specification leaves to servers.
FORBIDDEN = -32001  # the role of the caller must not call this method
NOT_CONNECTED = -32002  # there is no connection, or it was lost before the response
DEADLINE = -32003  # no response in time, or the caller cancelled
BUSY = -32004  # too many calls in flight
REFUSED = -32010  # the application refused; data has {"reason": stable code, "hint": text}

_REASONS = {
    PARSE_ERROR: CallFailure.PARSE_ERROR,
    INVALID_REQUEST: CallFailure.INVALID_REQUEST,
    METHOD_NOT_FOUND: CallFailure.UNKNOWN_METHOD,
    INVALID_PARAMS: CallFailure.INVALID_PARAMETERS,
    INTERNAL: CallFailure.INTERNAL,
    FORBIDDEN: CallFailure.FORBIDDEN,
    NOT_CONNECTED: CallFailure.NOT_CONNECTED,
    DEADLINE: CallFailure.DEADLINE,
    BUSY: CallFailure.BUSY,
}


class RpcError(SystemVmError):
    """A call that failed; raise it in a handler to send exactly this error.

    `data` can have {"hint": what to do, "parameter": the one whose value is refused}. Any other exception of
    a handler reaches the caller as `INTERNAL` with an incident id, and its text is only logged.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        parameter = _text_member(data, "parameter")
        super().__init__(message, _text_member(data, "hint"), code=code, parameter=parameter)
        self.code: int = code
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f"; {self.hint}" if self.hint else "")

    @property
    def reason(self) -> str:
        """The stable code; empty when the other end sent none: before protocol 3 only a refusal has one."""
        return _text_member(self.data, "reason")

    @classmethod
    def refused(cls, reason: enum.Enum | str, message: str, hint: str = "") -> RpcError:
        """Return the refusal of an application; `reason` is a stable code that programs compare."""
        return cls(REFUSED, message, {"reason": reason_text(reason), "hint": hint})

    def to_wire(self) -> dict[str, Any]:
        """Return the `error` member of a response; since protocol 3 its data has a reason for every code."""
        wire: dict[str, Any] = {"code": self.code, "message": self.message}
        data, reason = self.data, _REASONS.get(self.code)
        if reason is not None and (data is None or isinstance(data, dict)):
            data = {"reason": reason.value, **(data or {})}
        if data is not None:
            wire["data"] = data
        return wire

    @classmethod
    def from_wire(cls, wire: object) -> RpcError:
        """Parse the `error` member of a response.

        Raises: ValueError when it is not an error.
        """
        if not isinstance(wire, dict):
            raise ValueError("error is not an object")
        code, message = wire.get("code"), wire.get("message")
        if not isinstance(code, int) or isinstance(code, bool) or not isinstance(message, str):
            raise ValueError("error without an integer code and a text message")
        return cls(code, message, wire.get("data"))


def _text_member(data: object, name: str) -> str:
    """A text of an error's data; empty when the other end sent none."""
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def reason_text(reason: enum.Enum | str) -> str:
    """Return the text of a reason as it travels."""
    return str(reason.value) if isinstance(reason, enum.Enum) else reason
