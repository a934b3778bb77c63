# SPDX-License-Identifier: Apache-2.0
"""Errors of API calls: CloudStack's error codes, with a hint where one helps."""

from __future__ import annotations

import enum

from systemvm.service.errors import SystemVmError


class ErrorCode(enum.IntEnum):
    """`errorcode` of a response, which is also its HTTP status (ApiErrorCode.java)."""

    MALFORMED_REQUEST = 400
    UNAUTHORIZED = 401
    METHOD_NOT_ALLOWED = 405
    RATE_LIMITED = 429
    MALFORMED_PARAMETER = 430
    PARAMETER = 431
    UNSUPPORTED = 432
    BUSY = 503
    SECOND_FACTOR = 511
    INTERNAL = 530
    ACCOUNT = 531
    ACCOUNT_LIMIT = 532
    INSUFFICIENT_CAPACITY = 533
    RESOURCE_UNAVAILABLE = 534
    RESOURCE_ALLOCATION = 535
    RESOURCE_IN_USE = 536

    @property
    def reason(self) -> str:
        """The reason phrase of the HTTP status line."""
        return self.name.replace("_", " ").title()


#: CloudStack's numbers for the exception behind an error (CSExceptionErrorCode.java); 9999 for all others.
CS_ERROR_CODES = {
    ErrorCode.PARAMETER: 4350,  # InvalidParameterValueException
    ErrorCode.UNAUTHORIZED: 4365,  # PermissionDeniedException
    ErrorCode.RESOURCE_UNAVAILABLE: 4330,  # ResourceUnavailableException
    ErrorCode.INSUFFICIENT_CAPACITY: 4260,  # InsufficientCapacityException
    ErrorCode.RESOURCE_ALLOCATION: 4370,  # ResourceAllocationException
    ErrorCode.RESOURCE_IN_USE: 4375,  # ResourceInUseException
    ErrorCode.INTERNAL: 4250,  # CloudRuntimeException
}


class ApiError(SystemVmError):
    """A call that was rejected, or failed."""

    def __init__(
        self,
        code: ErrorCode,
        text: str,
        hint: str = "",
        *,
        retry_after_s: float | None = None,
        parameter: str = "",
        value: str = "",
    ) -> None:
        """`parameter` is the one whose value was refused: a page shows the error at its field."""
        super().__init__(text, hint, code=code, parameter=parameter, value=value)
        self.code: ErrorCode = code
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, object]:
        body: dict[str, object] = {
            "uuidList": [],
            "errorcode": int(self.code),
            "cserrorcode": CS_ERROR_CODES.get(self.code, 9999),
            "errortext": self.message,
        }
        if self.hint:
            body["hint"] = self.hint
        if self.parameter:
            body["parameter"] = self.parameter
        return body


def parameter_error(parameter: str, text: str, hint: str = "") -> ApiError:
    """Return an error 431: a parameter is missing, has an invalid value, or names what does not exist."""
    return ApiError(ErrorCode.PARAMETER, text, hint, parameter=parameter)


def object_error(uuid: str, text: str, hint: str = "") -> ApiError:
    """Return an error 431 about an object, by whichever parameter the call names it."""
    return ApiError(ErrorCode.PARAMETER, text, hint, value=uuid)


def unauthorized(
    text: str = "unable to verify user credentials and/or request signature",
    *,
    parameter: str = "",
    value: str = "",
) -> ApiError:
    """Return an error 401, with CloudStack's text, which does not reveal which part was wrong.

    `parameter` is the one that the caller must not send, `value` the UUID of the object that is another's.
    """
    return ApiError(ErrorCode.UNAUTHORIZED, text, parameter=parameter, value=value)


def second_factor_required() -> ApiError:
    """Return an error 511: the session's second factor is not verified yet."""
    return ApiError(
        ErrorCode.SECOND_FACTOR,
        "two factor authentication is required",
        "call validateUserTwoFactorAuthenticationCode with a code of your authenticator app",
    )
