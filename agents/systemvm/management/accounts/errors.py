# SPDX-License-Identifier: Apache-2.0
"""What may not be done to an account or user."""

from __future__ import annotations


class AccountError(RuntimeError):
    """`message` says what was wrong, `hint` what to do about it; nothing was changed."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint
