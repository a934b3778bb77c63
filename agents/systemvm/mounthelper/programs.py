# SPDX-License-Identifier: Apache-2.0
"""Runs programs that touch an export, until the deadline of a request: what hangs in the kernel, hangs alone.

A server that stops answering blocks even stat(2) on a hard mount. So this process never touches an export
itself; mount(8), umount(8) and coreutils do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

from attrs import frozen

from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError
from systemvm.wire.mount_failure import MountFailure

#: For a whole request: the daemon waits 150 s (management/mount_helper.py).
REQUEST_TIMEOUT_S = 120.0
#: A process that waits for an NFS server can be killed; this is for one that cannot.
_KILL_S = 5.0


@frozen
class _Cause:
    """Parts of a program's output in the C locale, and what each of them means to an operator."""

    outputs: tuple[str, ...]
    message: str
    hint: str
    reason: MountFailure


_CAUSES = (
    _Cause(
        ("stale file handle",),
        "the export is stale: its directory was deleted or replaced on the server",
        "restore the directory on the server, or stop what uses the pool, so that it is mounted again",
        MountFailure.STALE,
    ),
    _Cause(
        ("target is busy", "device is busy"),
        "something uses it",
        "stop what uses the pool, and repeat the request",
        MountFailure.IN_USE,
    ),
    _Cause(
        ("access denied", "operation not permitted", "permission denied", "read-only file system"),
        "the server refuses access",
        "export it rw,no_root_squash to the addresses of the hosts",
        MountFailure.REFUSES,
    ),
    _Cause(
        ("no such file",),
        "the server does not export this path to this host",
        "check the URL of the pool, and the exports of the server",
        MountFailure.NOT_EXPORTED,
    ),
    _Cause(
        ("unknown filesystem type", "bad option", "no such device"),
        "this host has no NFS client",
        "install Debian's nfs-common, and use a kernel with an NFS client",
        MountFailure.NO_CLIENT,
    ),
    _Cause(
        ("timed out",),
        "the server does not answer",
        "check the server and its firewall",
        MountFailure.UNREACHABLE,
    ),
)


def refused(reason: MountFailure, message: str, hint: str = "") -> RefusedError:
    return RefusedError(message, hint, reason.value)


class RequestDeadline:
    """The end of a request's time, which begins with the object."""

    def __init__(self) -> None:
        self._at_s = time.monotonic() + scaled_s(REQUEST_TIMEOUT_S)

    @property
    def left_s(self) -> float:
        return max(0.0, self._at_s - time.monotonic())


def hangs(what: str, waiting_for: str) -> RefusedError:
    return refused(
        MountFailure.HANGS,
        f"{what}: {waiting_for} has no result after {REQUEST_TIMEOUT_S:g} s",
        "check the NFS server",
    )


def run(command: list[str], what: str, deadline: RequestDeadline) -> str:
    """Return the output of a program that touches `what`.

    Raises: RefusedError, with a MountFailure as its reason, when it fails or has no result in time.
    """
    if not deadline.left_s:
        raise hangs(what, command[0])
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise refused(MountFailure.FAILED, f"{what}: cannot run {command[0]}: {error.strerror}") from None
    try:
        output, errors = process.communicate(timeout=deadline.left_s)
    except subprocess.TimeoutExpired:
        _abandon(process)
        raise hangs(what, command[0]) from None
    if process.returncode:
        # what programs write is for the journal, which systemd keeps
        os.write(2, f"<4>{what}: {errors.strip()[:500]}\n".encode())
        raise _explain(command[0], process.returncode, errors, what)
    return output


def _explain(program: str, status: int, errors: str, what: str) -> RefusedError:
    for cause in _CAUSES:
        if any(output in errors.lower() for output in cause.outputs):
            return refused(cause.reason, f"{what}: {cause.message}", cause.hint)
    return refused(
        MountFailure.FAILED,
        f"{what}: {program} ended with status {status}",
        "read the journal of systemvm-mounthelper",
    )


def _abandon(process: subprocess.Popen[str]) -> None:
    """Kill a program with its children (mount.nfs is one of mount's), and wait only a moment for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(scaled_s(_KILL_S))
