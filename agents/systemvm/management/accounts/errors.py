# SPDX-License-Identifier: Apache-2.0
"""The error of requests about accounts and users."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class AccountError(SystemVmError):
    """A request about an account or user that was rejected; nothing was changed."""

    code = FailureCode.INVALID
