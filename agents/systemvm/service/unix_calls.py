# SPDX-License-Identifier: Apache-2.0
"""One request and one response between two programs of a host, with descriptors.

Over a UNIX socket of packets (SOCK_SEQPACKET): a connection carries one JSON object each way, one packet
each, so neither end parses a stream. It is for helpers with a privilege that their caller does not have: they
serve one user (SO_PEERCRED, unix(7)), and do not read a byte of any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s

PACKET_BYTES = 64 * 1024
MAX_DESCRIPTORS = 24
MAX_CONTENT_BYTES = 64 * 1024 * 1024
#: How long a caller can take to send its request.
_REQUEST_TIMEOUT_S = 5.0
_UCRED = struct.Struct("iII")  # pid, uid, gid

#: Gets a request and its descriptors; returns the response and descriptors to send. All of these are closed
#: afterwards.
Handler = Callable[[dict[str, Any], list[int]], tuple[dict[str, Any], list[int]]]


class RefusedError(SystemVmError):
    """The other end refused the request, or failed; with a message, a hint and, for programs, a reason."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, message: str, hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


def inherited_socket() -> socket.socket:
    """Return the listening socket that the service manager has passed (sd_listen_fds(3)).

    Raises: RefusedError when there is none.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise RefusedError("no listening socket was passed", "start its .socket unit")
    listener = socket.socket(fileno=3)
    listener.set_inheritable(False)
    return listener


def serve_one(listener: socket.socket, uid: int, handler: Handler) -> str | None:
    """Serve one connection; return the reason for the journal when it was refused, otherwise None."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(scaled_s(_REQUEST_TIMEOUT_S))
        _, caller, _ = _UCRED.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if caller != uid:
            return f"request of uid {caller} refused: only uid {uid} is served"
        try:
            return _answer(connection, handler)
        except OSError as error:
            return f"caller disconnected: {error}"


def serve_always(listener: socket.socket, uid: int, handler: Handler) -> NoReturn:
    """Serve one connection after another; each refusal is a warning in the journal (sd-daemon(3))."""
    while True:
        refusal = serve_one(listener, uid, handler)
        if refusal is not None:
            sys.stderr.write(f"<4>request refused: {refusal}\n")


def _answer(connection: socket.socket, handler: Handler) -> str | None:
    data, received, flags, _ = socket.recv_fds(
        connection, PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    to_send: list[int] = []
    refusal: str | None = None
    try:
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise RefusedError(f"request is too long: the maximum is {PACKET_BYTES} bytes")
            request = json.loads(data)
            if not isinstance(request, dict):
                raise RefusedError("request is not a JSON object")
            answer, to_send = handler(request, received)
        except RefusedError as error:
            refusal = error.message
            answer = {"refused": error.message, "hint": error.hint, "reason": error.reason}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            refusal = f"invalid request: {type(error).__name__}: {error}"
            answer = {"refused": refusal, "hint": ""}
        except Exception as error:  # of one request: the helper goes on with the next
            refusal = f"request failed: {type(error).__name__}: {error}"
            why = (error.strerror if isinstance(error, OSError) else None) or "unexpected error"
            answer = {"refused": f"request failed: {why}", "hint": "read the journal of the helper"}
        socket.send_fds(connection, [json.dumps(answer).encode()], to_send)
    finally:
        for descriptor in (*received, *to_send):
            os.close(descriptor)
    return refusal


def call(
    path: Path, request: dict[str, Any], descriptors: Sequence[int] = (), *, timeout_s: float = 20.0
) -> tuple[dict[str, Any], list[int]]:
    """Send a request; return the response and its descriptors, which the caller closes. Blocks.

    Raises: RefusedError when the other end refuses; OSError when it cannot be reached.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout_s)
        _connect(connection, path)
        data: bytes = b""
        received: list[int] = []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
            data, received, _, _ = socket.recv_fds(
                connection, PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
    if not data:
        raise RefusedError(
            f"{path.name} closed the connection",
            "use the user of the management daemon, which is the only one it serves",
        )
    answer: dict[str, Any] = json.loads(data)
    if "refused" in answer:
        raise RefusedError(str(answer["refused"]), str(answer.get("hint", "")), str(answer.get("reason", "")))
    return answer, received


def call_with_content(
    path: Path, request: dict[str, Any], content: bytes, *, timeout_s: float = 20.0
) -> tuple[dict[str, Any], list[int]]:
    """Send a request with content that can be longer than a packet, in a file without a name; see `call`."""
    with os.fdopen(os.memfd_create("content", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        return call(path, request, [file.fileno()], timeout_s=timeout_s)


def read_whole(descriptor: int) -> bytes:
    """Return the content of a request, which the caller can no longer change.

    Raises: RefusedError when it is too long.
    """
    size = os.fstat(descriptor).st_size
    if size > MAX_CONTENT_BYTES:
        raise RefusedError(f"request is too long: {size} bytes, the maximum is {MAX_CONTENT_BYTES}")
    return os.pread(descriptor, size, 0)


def bind(path: Path) -> socket.socket:
    """Return a listening socket of packets, to be passed on; an old socket at its path is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _short_path(path) as address:
        listener.bind(address)
    path.chmod(0o600)
    listener.listen(16)
    return listener


def _connect(connection: socket.socket, path: Path) -> None:
    with _short_path(path) as address:
        connection.connect(address)


class _short_path:  # noqa: N801 - reads as a function
    """A short address for a UNIX socket however deep its directory: the kernel allows 107 bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._descriptor = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
