# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a lab, for people."""

from __future__ import annotations


class LabError(Exception):
    """`message` says what was wrong, `hint` what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\nhint: {hint}" if hint else message)
        self.message = message
        self.hint = hint
