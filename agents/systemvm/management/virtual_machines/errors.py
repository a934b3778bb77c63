# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine may not, or could not, do."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class MachineError(SystemVmError):
    """`message` says what was wrong, `hint` what to do about it."""

    code = FailureCode.UNAVAILABLE


class NotDeployableError(MachineError):
    """A deployment that names something that cannot be; nothing was made."""

    code = FailureCode.INVALID


class MachineStateError(MachineError):
    """The machine is in a state where this cannot be done, and waiting does not change that."""

    code = FailureCode.WRONG_STATE


class MachineBusyError(MachineError):
    """Another thing is being done to the machine."""

    code = FailureCode.IN_USE
