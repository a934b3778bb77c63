# SPDX-License-Identifier: Apache-2.0
"""Errors of operations on users' virtual machines."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class MachineError(SystemVmError):
    """An operation on a machine that failed."""

    code = FailureCode.UNAVAILABLE


class NotDeployableError(MachineError):
    """A deployment with an invalid request; no row was created."""

    code = FailureCode.INVALID


class IsoNotUsableError(MachineError):
    """An ISO that no machine of the zone can have."""

    code = FailureCode.INVALID


class NotScalableError(MachineError):
    """An offering that a machine cannot have; nothing was changed."""

    code = FailureCode.INVALID


class MachineStateError(MachineError):
    """An operation that the machine's state excludes; waiting does not change that."""

    code = FailureCode.WRONG_STATE


class MachineBusyError(MachineError):
    """Another operation on the machine is in progress."""

    code = FailureCode.IN_USE
