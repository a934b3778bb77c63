# SPDX-License-Identifier: Apache-2.0
"""Every exception a command may raise, told in the API's words."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.rpc.core import errors as rpc
from systemvm.service import host_errors
from systemvm.service.errors import FailureCode, SystemVmError

log = Logger()

#: A code that is missing here has no meaning to the caller of a command: it is answered as an internal error.
_API_CODES: dict[FailureCode, ErrorCode] = {
    FailureCode.INVALID: ErrorCode.PARAMETER,
    FailureCode.NOT_FOUND: ErrorCode.PARAMETER,
    FailureCode.WRONG_STATE: ErrorCode.PARAMETER,
    FailureCode.IN_USE: ErrorCode.RESOURCE_IN_USE,
    FailureCode.NO_CAPACITY: ErrorCode.INSUFFICIENT_CAPACITY,
    FailureCode.NO_STORE: ErrorCode.RESOURCE_ALLOCATION,
    FailureCode.UNAVAILABLE: ErrorCode.RESOURCE_UNAVAILABLE,
}


def as_api_error(error: Exception, request_id: str) -> ApiError:
    """The error to answer with; what nobody foresaw is logged and answered with its request id alone."""
    match error:
        case ApiError():
            return error
        case rpc.RpcError():
            busy = error.code == rpc.BUSY
            code = ErrorCode.BUSY if busy else ErrorCode.RESOURCE_UNAVAILABLE
            return ApiError(code, error.message, error.hint)
        case SystemVmError(code=FailureCode() as kind) if kind in _API_CODES:
            return ApiError(_API_CODES[kind], error.message, error.hint)
    log.failure("API call {request_id} failed", failure=Failure(error), request_id=request_id)
    trouble = host_errors.explain(error)
    if trouble is not None:
        text = f"The host cannot do it: {trouble.message}"
        return ApiError(ErrorCode.RESOURCE_UNAVAILABLE, text, trouble.hint)
    return ApiError(
        ErrorCode.INTERNAL,
        f"Internal error; the daemon's log tells more under {request_id}",
        "journalctl -u systemvm-managementd",
    )
