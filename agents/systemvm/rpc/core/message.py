# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC 2.0 messages: requests, notifications and responses, distinguished and checked.

A request has two members that are not in the specification: `request_id`, the same from the API to the log of
a worker, and `deadline_ms`, how long its caller waits after sending it. Older versions ignore both.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from systemvm.rpc.core.errors import INVALID_REQUEST, RpcError
from systemvm.service.errors import FailureCode, SystemVmError

MessageId = str | int
MAX_ID_CHARACTERS = 128
MAX_ID_NUMBER = 2**53 - 1  # every JSON parser keeps it exactly (RFC 8259, section 6)
MAX_METHOD_CHARACTERS = 256


@frozen
class Request:
    """A call, or a notification when `id` is None."""

    method: str
    params: Any
    id: MessageId | None
    request_id: str | None
    deadline_ms: int | None = None  # None: the caller sent none

    def to_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"jsonrpc": "2.0", "method": self.method}
        if self.params is not None:
            wire["params"] = self.params
        if self.id is not None:
            wire["id"] = self.id
        if self.request_id is not None:
            wire["request_id"] = self.request_id
        if self.deadline_ms is not None:
            wire["deadline_ms"] = self.deadline_ms
        return wire


@frozen
class Response:
    """The outcome of a call: `error` or `result`. Its id is None when that of the call could not be read."""

    id: MessageId | None
    result: Any = None
    error: RpcError | None = None

    def to_wire(self) -> dict[str, Any]:
        if self.error is not None:
            return {"jsonrpc": "2.0", "id": self.id, "error": self.error.to_wire()}
        return {"jsonrpc": "2.0", "id": self.id, "result": self.result}


class InvalidMessage(SystemVmError):  # noqa: N818
    """JSON that is not JSON-RPC 2.0; `answer` is the response to send, None for none."""

    code = FailureCode.PROTOCOL

    def __init__(self, hint: str, answer: Response | None) -> None:
        super().__init__(hint)
        self.answer = answer


def read(message: object) -> Request | Response:
    """Return the message as its type.

    Raises: InvalidMessage when it is not a message.
    """
    if not isinstance(message, dict):
        hint = "a batch is for HTTP" if isinstance(message, list) else "a message is an object"
        raise _invalid(hint, None)
    if "method" in message:
        return _read_request(message)
    if "result" in message or "error" in message:
        return _read_answer(message)
    raise _invalid("neither method, result nor error", _known_id(message.get("id")))


def _read_request(message: dict[str, Any]) -> Request:
    message_id = _known_id(message.get("id"))
    if message.get("jsonrpc") != "2.0":
        raise _invalid('jsonrpc must be "2.0"', message_id)
    if "id" in message and message_id is None:
        hint = f"id must be an integer below 2**53 or a text of at most {MAX_ID_CHARACTERS} characters"
        raise _invalid(hint, None)
    method = message["method"]
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_CHARACTERS:
        hint = f"method must be a text of 1 to {MAX_METHOD_CHARACTERS} characters"
        raise _invalid(hint, message_id)
    params = message.get("params")
    if "params" in message and not isinstance(params, dict | list):
        raise _invalid("params must be an object", message_id)
    request_id = message.get("request_id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= MAX_ID_CHARACTERS):
        raise _invalid(f"request_id must be a text of at most {MAX_ID_CHARACTERS} characters", message_id)
    deadline_ms = message.get("deadline_ms")
    if deadline_ms is not None and not _is_count(deadline_ms):
        raise _invalid("deadline_ms must be a number of milliseconds, 0 or more", message_id)
    return Request(method, params, message_id, request_id, deadline_ms)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID_NUMBER


def _read_answer(message: dict[str, Any]) -> Response:
    # a bad response is never responded to: two ends that disagree would send errors for ever
    if message.get("jsonrpc") != "2.0":
        raise InvalidMessage('answer: jsonrpc must be "2.0"', None)
    if "result" in message and "error" in message:
        raise InvalidMessage("answer with both result and error", None)
    message_id = _known_id(message.get("id"))
    if "result" in message:
        if message_id is None:
            raise InvalidMessage("result without an id", None)
        return Response(message_id, result=message["result"])
    try:
        return Response(message_id, error=RpcError.from_wire(message["error"]))
    except ValueError as error:
        raise InvalidMessage(f"answer: {error}", None) from None


def _known_id(value: object) -> MessageId | None:
    if isinstance(value, str) and len(value) <= MAX_ID_CHARACTERS:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_ID_NUMBER:
        return value
    return None


def _invalid(hint: str, message_id: MessageId | None) -> InvalidMessage:
    error = RpcError(INVALID_REQUEST, "invalid request", {"hint": hint})
    return InvalidMessage(hint, Response(message_id, error=error))
