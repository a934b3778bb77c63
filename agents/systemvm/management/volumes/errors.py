# SPDX-License-Identifier: Apache-2.0
"""Errors of operations on volumes."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class VolumeError(SystemVmError):
    """An operation on a volume that failed."""

    code = FailureCode.UNAVAILABLE


class VolumeRequestError(VolumeError):
    """A request with a value that cannot be; nothing was changed."""

    code = FailureCode.INVALID


class VolumeStateError(VolumeError):
    """An operation that the state of the volume or of its VM excludes."""

    code = FailureCode.WRONG_STATE


class NoPoolError(VolumeError):
    """No pool, or not the one that was named, takes a volume."""

    code = FailureCode.NO_CAPACITY
