# SPDX-License-Identifier: Apache-2.0
"""Checks that the NFS server of a store answers, with the reason for operators when it does not."""

from __future__ import annotations

import errno

from systemvm.service.nfs_service import PORT, answers
from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

_EXPLANATIONS = {
    errno.ECONNREFUSED: ("refuses the connection", "start the NFS service of the server"),
    errno.ETIMEDOUT: ("does not answer", "check the server, its firewall and the storage network"),
    errno.EHOSTUNREACH: ("cannot be reached: no route to host", "check the storage network and eth3"),
    errno.ENETUNREACH: ("cannot be reached: no route to host", "check the storage network and eth3"),
}


def require_server(server: str, version: str, *, port: int = PORT, timeout_s: float | None = None) -> None:
    """Check that the NFS service of `server` answers.

    Raises: TransferError when there is no response.
    """
    try:
        if answers(server, int(version[0]), port=port, timeout_s=timeout_s):
            return
    except OSError as error:
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno
        why, hint = _EXPLANATIONS.get(number or 0, (f"cannot be reached: {error.strerror or error}", ""))
        raise TransferError(TransferFailure.STORE_UNREACHABLE, f"NFS server {server} {why}", hint) from None
    raise TransferError(
        TransferFailure.STORE_HANGS,
        f"NFS server {server} hangs: it accepts connections and does not answer",
        "check its NFS service and its disks, and restart it; work continues once it answers",
    )
