# SPDX-License-Identifier: Apache-2.0
"""A question and an answer between two programs of a host, with descriptors; the kernel says who asks.

A UNIX socket of packets (SOCK_SEQPACKET): a connection carries one JSON object each way, a packet each, so
neither end has a stream to parse. It is for helpers that hold a privilege their caller does not have: only
the one user they serve is listened to (SO_PEERCRED, unix(7)); not one byte of anybody else is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s

PACKET_BYTES = 64 * 1024
MAX_DESCRIPTORS = 24
#: How long a caller may take to say what it wants.
_REQUEST_TIMEOUT_S = 5.0
_UCRED = struct.Struct("iII")  # pid, uid, gid

#: What is asked, with the descriptors that came along; what is answered, with descriptors to send.
#: All of them are closed afterwards.
Handler = Callable[[dict[str, Any], list[int]], tuple[dict[str, Any], list[int]]]


class RefusedError(SystemVmError):
    """The other end would not, or could not; `message` says what was wrong, `hint` what to do about it."""

    code = FailureCode.UNAVAILABLE


def inherited_socket() -> socket.socket:
    """The listening socket that the service manager handed over (sd_listen_fds(3)), or RefusedError."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise RefusedError("no listening socket was handed over", "start it by its .socket unit")
    listener = socket.socket(fileno=3)
    listener.set_inheritable(False)
    return listener


def serve_one(listener: socket.socket, uid: int, handler: Handler) -> str | None:
    """Take one connection to its end; what was refused, in words for the journal, or None."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(scaled_s(_REQUEST_TIMEOUT_S))
        _, caller, _ = _UCRED.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if caller != uid:
            return f"uid {caller} asked; only {uid} is served"
        try:
            return _answer(connection, handler)
        except OSError as error:
            return f"the caller went away: {error}"


def _answer(connection: socket.socket, handler: Handler) -> str | None:
    data, came, flags, _ = socket.recv_fds(connection, PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    going: list[int] = []
    trouble: str | None = None
    try:
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise RefusedError("the request is too long")
            request = json.loads(data)
            if not isinstance(request, dict):
                raise RefusedError("a request is an object")
            answer, going = handler(request, came)
        except RefusedError as error:
            trouble = error.message
            answer = {"refused": error.message, "hint": error.hint}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            trouble = f"a request that is none: {type(error).__name__}: {error}"
            answer = {"refused": trouble, "hint": ""}
        socket.send_fds(connection, [json.dumps(answer).encode()], going)
    finally:
        for descriptor in (*came, *going):
            os.close(descriptor)
    return trouble


def call(
    path: Path, request: dict[str, Any], descriptors: Sequence[int] = (), *, timeout_s: float = 20.0
) -> tuple[dict[str, Any], list[int]]:
    """Ask and wait: the answer and the descriptors that came with it, which are the caller's to close.

    RefusedError when the other end refuses; OSError when nobody is there. Blocks: for threads.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout_s)
        _connect(connection, path)
        data: bytes = b""
        came: list[int] = []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
            data, came, _, _ = socket.recv_fds(
                connection, PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
    if not data:
        raise RefusedError(f"{path.name} hung up", "it serves the management daemon's user alone")
    answer: dict[str, Any] = json.loads(data)
    if "refused" in answer:
        raise RefusedError(str(answer["refused"]), str(answer.get("hint", "")))
    return answer, came


def bind(path: Path) -> socket.socket:
    """A listening socket of packets, for whoever hands it over; its place in the file system is made anew."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _short(path) as address:
        listener.bind(address)
    path.chmod(0o600)
    listener.listen(16)
    return listener


def _connect(connection: socket.socket, path: Path) -> None:
    with _short(path) as address:
        connection.connect(address)


class _short:  # noqa: N801 - reads as a function
    """A UNIX socket's address that is short, however deep its directory: the kernel allows 107 bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._descriptor = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
