# SPDX-License-Identifier: Apache-2.0
"""Why an appliance cannot be prepared: one error type whose kind is the program's exit code."""

from __future__ import annotations

import enum


class FailureKind(enum.IntEnum):
    """Exit codes of `systemvm-preinit`; `systemctl status` shows them beside the message."""

    NO_BOOT_ARGUMENTS = 10
    BAD_BOOT_ARGUMENTS = 11
    NIC_ABSENT = 12
    COMMAND_FAILED = 13


class BootError(Exception):
    """What is wrong and what to do about it, for a person who reads a serial console."""

    def __init__(self, kind: FailureKind, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


def bad(message: str, hint: str = "") -> BootError:
    """The commonest kind: a boot argument that cannot be right."""
    return BootError(FailureKind.BAD_BOOT_ARGUMENTS, message, hint)
