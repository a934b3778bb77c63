# SPDX-License-Identifier: Apache-2.0
"""Why a host that this daemon does not drive, or a VM there, cannot be used."""

from __future__ import annotations

import enum

from systemvm.service.errors import FailureCode, SystemVmError


class ApiFault(enum.Enum):
    """The kinds of failures, for programs; the values are stable."""

    UNRESOLVED = "unresolved"  # its name has no address
    UNREACHABLE = "unreachable"
    NO_TLS = "no_tls"
    UNTRUSTED = "untrusted"  # its certificate is not verified
    NOT_AN_API = "not_an_api"  # it answers something else
    TOO_LONG = "too_long"
    LOGIN_REFUSED = "login_refused"
    FORBIDDEN = "forbidden"  # the account may not do this
    NOT_THE_MASTER = "not_the_master"  # of its pool
    NO_SCREEN = "no_screen"  # the VM has none now
    OTHER_ADDRESS = "other_address"  # a screen that is at none of the host's addresses


class ForeignHostError(SystemVmError):
    """The host's API cannot be reached, refuses, or answers something else."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, message: str, hint: str = "", fault: ApiFault = ApiFault.NOT_AN_API) -> None:
        super().__init__(message, hint)
        self.fault = fault


class HostDefinitionError(SystemVmError):
    """A host that cannot be registered or changed like this."""

    code = FailureCode.INVALID
