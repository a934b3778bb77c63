# SPDX-License-Identifier: Apache-2.0
"""Maps the exceptions that a command can raise to errors of the API."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.state.list_turns import TooManyListsError
from systemvm.rpc.core import errors as rpc
from systemvm.service import host_errors
from systemvm.service.errors import FailureCode, SystemVmError

log = Logger()

#: A code that is missing here means nothing to the caller of a command, and becomes an internal error.
_API_CODES: dict[FailureCode, ErrorCode] = {
    FailureCode.INVALID: ErrorCode.PARAMETER,
    FailureCode.NOT_FOUND: ErrorCode.PARAMETER,
    FailureCode.WRONG_STATE: ErrorCode.PARAMETER,
    FailureCode.IN_USE: ErrorCode.RESOURCE_IN_USE,
    FailureCode.NO_CAPACITY: ErrorCode.INSUFFICIENT_CAPACITY,
    FailureCode.OVER_LIMIT: ErrorCode.RESOURCE_ALLOCATION,
    FailureCode.NO_STORE: ErrorCode.RESOURCE_ALLOCATION,
    FailureCode.UNAVAILABLE: ErrorCode.RESOURCE_UNAVAILABLE,
}


def as_api_error(error: Exception, request_id: str) -> ApiError:
    """Return the error to respond with; an unexpected exception is logged under its request id."""
    match error:
        case ApiError():
            return error
        case rpc.RpcError():
            busy = error.code == rpc.BUSY
            code = ErrorCode.BUSY if busy else ErrorCode.RESOURCE_UNAVAILABLE
            return ApiError(code, error.message, error.hint)
        case TooManyListsError():
            return ApiError(ErrorCode.BUSY, error.message, error.hint, retry_after_s=1.0)
        case SystemVmError(code=FailureCode() as kind) if kind in _API_CODES:
            return ApiError(_API_CODES[kind], error.message, error.hint, parameter=error.parameter)
    log.failure("API call {request_id} failed", failure=Failure(error), request_id=request_id)
    trouble = host_errors.explain(error)
    if trouble is not None:
        text = f"host cannot do this: {trouble.message}"
        return ApiError(ErrorCode.RESOURCE_UNAVAILABLE, text, trouble.hint)
    return ApiError(
        ErrorCode.INTERNAL,
        f"internal error: see request {request_id} in the daemon's log",
        f'run "journalctl -u systemvm-managementd" on the host and look for {request_id}',
    )
