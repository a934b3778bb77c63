# SPDX-License-Identifier: Apache-2.0
"""Why a store on an NFS server cannot be used: one code for each cause that an operator mends differently."""

from __future__ import annotations

import enum


class StoreFailure(enum.Enum):
    """Reasons of `storage.*` and of downloads; the values are stable."""

    HANGS = "store_hangs"  # the server was reached before and does not answer calls
    REFUSES = "store_refuses"  # the server answers, and refuses the mount
    UNREACHABLE = "store_unreachable"  # no connection to the server can be made
    NOT_MOUNTED = "store_not_mounted"
    MOUNT_FAILED = "mount_failed"
    FULL = "store_full"
    FAILED = "store_failed"  # an operation on a mounted store failed
