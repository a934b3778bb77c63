# SPDX-License-Identifier: Apache-2.0
"""Why a host cannot mount or unmount the export of a storage pool."""

from __future__ import annotations

import enum


class MountFailure(enum.Enum):
    """One code for each cause that an operator mends differently; the values are stable."""

    HANGS = "nfs_hangs"  # the server accepts connections and does not answer
    UNREACHABLE = "nfs_unreachable"  # no connection to the server can be made
    REFUSES = "nfs_refuses"  # the server answers, and this host may not mount, or not own, the export
    NOT_EXPORTED = "nfs_not_exported"  # the server has no such export
    STALE = "nfs_stale"  # the directory of the export was deleted or replaced on the server
    IN_USE = "mount_in_use"  # something uses the mount, or another export is mounted in its place
    NO_CLIENT = "no_nfs_client"  # the kernel or the programs of this host cannot mount NFS
    FAILED = "mount_failed"
