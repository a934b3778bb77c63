# SPDX-License-Identifier: Apache-2.0
"""Errors of operations on snapshots of volumes."""

from __future__ import annotations

from systemvm.service.errors import FailureCode, SystemVmError


class SnapshotError(SystemVmError):
    """An operation on a snapshot that failed."""

    code = FailureCode.UNAVAILABLE


class SnapshotUnreachableError(SnapshotError):
    """No SSVM of the zone has connected in the time that a call waits for one."""


class SnapshotRequestError(SnapshotError):
    """A request with a value that cannot be; nothing was changed."""

    code = FailureCode.INVALID


class SnapshotStateError(SnapshotError):
    """An operation that the state of the snapshot or of its volume excludes."""

    code = FailureCode.WRONG_STATE
