# SPDX-License-Identifier: Apache-2.0
"""Errors of mount.nfs, which has one exit code for all of them, by its output in the C locale."""

from __future__ import annotations

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

_EXPORT = "export it rw,no_root_squash to the storage address of this SSVM"
_VERSION = "set nfsversion of the store to a version that the server supports"
_KERNEL = "use a kernel with an NFS client"


@frozen
class MountError:
    """A part of mount.nfs's output, and what it means to an operator."""

    output: str
    message: str
    hint: str
    code: TransferFailure = TransferFailure.MOUNT_FAILED


ERRORS = (
    MountError("access denied", "the server refuses access", _EXPORT, TransferFailure.STORE_REFUSES),
    MountError(
        "Operation not permitted", "the server refuses access", _EXPORT, TransferFailure.STORE_REFUSES
    ),
    MountError("No such file", "the server does not export this path", "check the URL of the store"),
    MountError(
        "Connection refused", "the server refuses the connection", "start the NFS service of the server"
    ),
    MountError("No route to host", "there is no route to the server", "check the storage network and eth3"),
    MountError(
        "timed out", "the server does not answer", "check the server, its firewall and the storage network"
    ),
    MountError("Protocol not supported", "the server does not support this NFS version", _VERSION),
    MountError("requested NFS version", "the server does not support this NFS version", _VERSION),
    MountError("unknown filesystem type", "the kernel has no NFS client", _KERNEL),
    MountError("No such device", "the kernel has no NFS client", _KERNEL),
)


def explain(source: str, status: int, output: str) -> TransferError:
    """Return the error for a failed mount of `source`, without quoting the output."""
    for known in ERRORS:
        if known.output.lower() in output.lower():
            return TransferError(known.code, f"{source} cannot be mounted: {known.message}", known.hint)
    return TransferError(
        TransferFailure.MOUNT_FAILED,
        f"{source} cannot be mounted: mount exited with status {status}",
        "read the journal of systemvm-mount in the system VM",
    )
