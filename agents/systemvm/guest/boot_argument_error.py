# SPDX-License-Identifier: Apache-2.0
"""Why an appliance cannot be prepared: one error type, whose code decides the program's exit code."""

from __future__ import annotations

from systemvm.service.errors import SystemVmError
from systemvm.wire.boot_failure import BootFailure


class BootError(SystemVmError):
    """What is wrong and what to do about it, for a person who reads a serial console."""

    def __init__(self, code: BootFailure, message: str, hint: str = "") -> None:
        super().__init__(message, hint, code=code)
        self.code: BootFailure = code

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


def boot_argument_error(message: str, hint: str = "") -> BootError:
    """The commonest kind: a boot argument that cannot be right."""
    return BootError(BootFailure.BAD_BOOT_ARGUMENTS, message, hint)
