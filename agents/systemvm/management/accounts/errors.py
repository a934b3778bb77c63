# SPDX-License-Identifier: Apache-2.0
"""What may not be done to an account or user."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class AccountError(SystemVmError):
    """`message` says what was wrong, `hint` what to do about it; nothing was changed."""

    code = FailureCode.INVALID
