# SPDX-License-Identifier: Apache-2.0
"""The base of every exception that this project raises on purpose: a code, a message and a hint.

The code is for programs, message and hint are for people. Only Python's own library is imported, because the
launcher, the network helper and `systemvm-preinit` import this too.
"""

from __future__ import annotations

import enum


class FailureCode(enum.Enum):
    """What kind of failure an exception is: what its caller can do about it. The values are stable."""

    INVALID = "invalid"  # the request names a value that cannot be; another value can
    NOT_FOUND = "not_found"
    WRONG_STATE = "wrong_state"  # the object's state excludes it, and waiting does not change that
    IN_USE = "in_use"  # something else uses or changes the object; a later request can succeed
    NO_CAPACITY = "no_capacity"  # an address range or the like is used up
    OVER_LIMIT = "over_limit"  # an account or a domain has as much as it is allowed to
    NO_STORE = "no_store"  # no image store takes anything
    NOT_PERMITTED = "not_permitted"
    UNAVAILABLE = "unavailable"  # a part of the cloud failed or does not answer
    CONFIGURATION = "configuration"  # a file of the operator's is wrong
    PROTOCOL = "protocol"  # the other end broke a protocol
    STOPPED = "stopped"  # this program is ending
    INTERNAL = "internal"


class SystemVmError(Exception):
    """A failure with a `code` for programs, and a `message` and a `hint` (empty when none helps) for people.

    A class sets the code of its instances; a kind of failure with codes of its own, in `wire/`, gives each
    instance one.
    """

    code: enum.Enum | int = FailureCode.INTERNAL
    #: The parameter of the request whose value is refused, if one is.
    parameter: str = ""
    #: The value that is refused, where only the caller knows as which parameter it was sent.
    value: str = ""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        code: enum.Enum | int | None = None,
        parameter: str = "",
        value: str = "",
    ) -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint
        if parameter:
            self.parameter = parameter
        if value:
            self.value = value
        if code is not None:
            self.code = code
