# SPDX-License-Identifier: Apache-2.0
"""Asks whether an NFS server answers, before mount.nfs is run, which takes minutes to report the same.

A connection proves little: the kernel of a host whose NFS service hangs accepts it. So the NULL procedure of
the service is called, which every version of NFS has (RFC 1813, 3.3.0; RFC 8881, 16.1), in an ONC RPC call
over TCP (RFC 5531).

A busy machine reads the answer of a good server late, so the timeout grows with how much slower than at its
best this machine is; emulation by itself does not delay a server.
"""

from __future__ import annotations

import os
import socket
import struct

from systemvm.service import slowness

PORT = 2049
TIMEOUT_S = 10.0  # for the connection, and again for the response

_CALL, _RPC_VERSION, _NFS_PROGRAM, _NULL = 0, 2, 100003, 0
_LAST_FRAGMENT = 0x80000000


def null_call(call_id: bytes, version: int) -> bytes:
    """Return a call of the NULL procedure without credentials, as one fragment of a TCP record."""
    head = struct.pack("!5I", _CALL, _RPC_VERSION, _NFS_PROGRAM, version, _NULL)
    message = call_id + head + bytes(16)  # credential and verifier: AUTH_NONE, empty
    return struct.pack("!I", _LAST_FRAGMENT | len(message)) + message


def answers(server: str, version: int, *, port: int = PORT, timeout_s: float | None = None) -> bool:
    """Return whether the NFS service of `server` answers; False means that it hangs.

    Any response is good, and so is a closed connection: mount reports better what the server rejects.

    Raises: OSError when it cannot be reached.
    """
    if timeout_s is None:
        timeout_s = TIMEOUT_S * slowness.METER.snapshot().slowdown
    with socket.create_connection((server, port), timeout=timeout_s) as channel:
        try:
            channel.sendall(null_call(os.urandom(4), version))
            channel.recv(1)
        except ConnectionError:
            return True
        except TimeoutError:
            return False
    return True
