# SPDX-License-Identifier: Apache-2.0
"""Every exception a command may raise, told in the API's words."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.management.accounts.errors import AccountError
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.hypervisors.base import HypervisorError
from systemvm.management.network_helper import NetworkError
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state.addresses import PoolExhaustedError
from systemvm.management.state.rows import NotFoundError
from systemvm.management.templates.service import NoStoreError, TemplateInUseError, TemplateStateError
from systemvm.management.virtual_machines.errors import (
    MachineBusyError,
    MachineError,
    MachineStateError,
    NotDeployableError,
)
from systemvm.rpc.core import errors as rpc
from systemvm.service import host_errors

log = Logger()


def as_api_error(error: Exception, request_id: str) -> ApiError:
    """The error to answer with; what nobody foresaw is logged and answered with its request id alone."""
    match error:
        case ApiError():
            return error
        case NotFoundError():
            return ApiError(ErrorCode.PARAMETER, str(error))
        case NotDeployableError() | MachineStateError() | AccountError():
            return ApiError(ErrorCode.PARAMETER, error.message, error.hint)
        case NoStoreError():
            return ApiError(ErrorCode.RESOURCE_ALLOCATION, error.message, error.hint)
        case TemplateInUseError() | TemplateStateError():
            return ApiError(ErrorCode.PARAMETER, error.message, error.hint)
        case MachineBusyError():
            return ApiError(ErrorCode.RESOURCE_IN_USE, error.message, error.hint)
        case PoolExhaustedError():
            return ApiError(ErrorCode.INSUFFICIENT_CAPACITY, str(error))
        case HypervisorError() | MachineError() | PrimaryStorageError() | NetworkError():
            return ApiError(ErrorCode.RESOURCE_UNAVAILABLE, error.message, error.hint)
        case rpc.RpcError(code=rpc.BUSY):
            return ApiError(ErrorCode.BUSY, error.message, error.hint)
        case rpc.RpcError():
            return ApiError(ErrorCode.RESOURCE_UNAVAILABLE, error.message, error.hint)
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
