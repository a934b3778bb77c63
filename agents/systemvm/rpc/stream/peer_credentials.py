# SPDX-License-Identifier: Apache-2.0
"""Identifies the other end of a UNIX socket by its credentials (SO_PEERCRED), and authorizes it."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable

from systemvm.rpc.core.method import Caller

OPERATOR = "operator"
#: `roles` of a method that only operators may call.
OPERATORS = frozenset({OPERATOR})

#: Gets uid, gid and pid of the other end; returns the caller, or None to refuse it.
Authorize = Callable[[int, int, int], Caller | None]

_UCRED = struct.Struct("iII")  # pid, uid, gid


def credentials(handle: socket.socket) -> tuple[int, int, int]:
    """Return (uid, gid, pid) of the process that connected."""
    pid, uid, gid = _UCRED.unpack(handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return uid, gid, pid


def root_only(uid: int, gid: int, pid: int) -> Caller | None:
    """Authorize root: the rule in guests."""
    return Caller("uid:0", OPERATOR) if uid == 0 else None


def root_and_group(group: str) -> Authorize:
    """Return the rule on hosts: root, the user of this program, and the members of `group`, if it exists."""

    def authorize(uid: int, gid: int, pid: int) -> Caller | None:
        if uid in (0, os.geteuid()) or _is_member(uid, gid, group):
            return Caller(f"uid:{uid}", OPERATOR)
        return None

    return authorize


def _is_member(uid: int, gid: int, group: str) -> bool:
    try:
        wanted = grp.getgrnam(group).gr_gid
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    return gid == wanted or wanted in os.getgrouplist(user.pw_name, user.pw_gid)
