# SPDX-License-Identifier: Apache-2.0
"""The base class of the lab's errors."""

from __future__ import annotations

from systemvm.service.errors import SystemVmError


class LabError(SystemVmError):
    """An error of the lab, with a hint."""

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message
