# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a UNIX socket: the kernel says (SO_PEERCRED), a rule decides."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable

from systemvm.rpc.core.method import Caller

OPERATOR = "operator"
#: `roles` of a method that is theirs alone.
OPERATORS = frozenset({OPERATOR})

#: Gets uid, gid and pid of the other end, and says who that is; None is a no.
Authorize = Callable[[int, int, int], Caller | None]

_UCRED = struct.Struct("iII")  # pid, uid, gid


def credentials(handle: socket.socket) -> tuple[int, int, int]:
    """The (uid, gid, pid) that connected."""
    pid, uid, gid = _UCRED.unpack(handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return uid, gid, pid


def root_only(uid: int, gid: int, pid: int) -> Caller | None:
    """The rule inside guests."""
    return Caller("uid:0", OPERATOR) if uid == 0 else None


def root_and_group(group: str) -> Authorize:
    """The rule on hosts: root, this program's own user, and the members of `group`, which need not exist."""

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
