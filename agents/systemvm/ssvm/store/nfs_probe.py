# SPDX-License-Identifier: Apache-2.0
"""Whether an NFS server is there, asked before the kernel is: mount.nfs takes minutes to say what this does.

A connection alone says little: the kernel of a host whose NFS service hangs accepts it all the same. So the
service itself is asked for nothing, by the NULL procedure that every version of NFS has (RFC 1813, 3.3.0;
RFC 8881, 16.1), in an ONC RPC call over TCP (RFC 5531).

A busy machine reads late what a good server answered in time, so the wait grows with how much slower than at
its best this machine is; emulation alone does not delay a server.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from systemvm.service import slowness
from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

PORT = 2049
TIMEOUT_S = 10.0  # for the connection, and again for the answer

_CALL, _RPC_VERSION, _NFS_PROGRAM, _NULL = 0, 2, 100003, 0
_LAST_FRAGMENT = 0x80000000
_WORDS = {
    errno.ECONNREFUSED: ("refuses the connection", "start its NFS service"),
    errno.ETIMEDOUT: ("does not answer", "check the server, its firewall and the storage network"),
    errno.EHOSTUNREACH: ("cannot be reached: no route to host", "check the storage network and eth3"),
    errno.ENETUNREACH: ("cannot be reached: no route to host", "check the storage network and eth3"),
}


def null_call(call_id: bytes, version: int) -> bytes:
    """An RPC call of NFS's NULL procedure without credentials, as one fragment of a TCP record."""
    head = struct.pack("!5I", _CALL, _RPC_VERSION, _NFS_PROGRAM, version, _NULL)
    message = call_id + head + bytes(16)  # credential and verifier: AUTH_NONE, empty
    return struct.pack("!I", _LAST_FRAGMENT | len(message)) + message


def require_server(server: str, version: str, *, port: int = PORT, timeout_s: float | None = None) -> None:
    """TransferError in plain words unless the NFS service of `server` answers.

    Any answer will do, and so will a hang-up: what a server has against a caller, its mount says better.
    """
    try:
        if timeout_s is None:
            timeout_s = TIMEOUT_S * slowness.METER.snapshot().slowdown
        with socket.create_connection((server, port), timeout=timeout_s) as channel:
            _ask(channel, server, version)
    except OSError as error:
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno
        why, hint = _WORDS.get(number or 0, (f"cannot be reached: {error.strerror or error}", ""))
        raise TransferError(TransferFailure.STORE_UNREACHABLE, f"NFS server {server} {why}", hint) from None


def _ask(channel: socket.socket, server: str, version: str) -> None:
    try:
        channel.sendall(null_call(os.urandom(4), int(version[0])))
        channel.recv(1)
    except ConnectionError:
        return
    except TimeoutError:
        raise TransferError(
            TransferFailure.STORE_HANGS,
            f"NFS server {server} takes connections and does not answer: its NFS service hangs",
            "look at its NFS service and its disks, and restart it; all goes on by itself once it answers",
        ) from None
