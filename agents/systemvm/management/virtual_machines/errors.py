# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine may not, or could not, do."""

from __future__ import annotations


class MachineError(RuntimeError):
    """`message` says what was wrong, `hint` what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint


class NotDeployableError(MachineError):
    """A deployment that names something that cannot be; nothing was made."""


class MachineStateError(MachineError):
    """The machine is in a state where this cannot be done, and waiting does not change that."""


class MachineBusyError(MachineError):
    """Another thing is being done to the machine."""
