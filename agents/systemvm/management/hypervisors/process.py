# SPDX-License-Identifier: Apache-2.0
"""A hypervisor's process: started so that it outlives the daemon, and watched whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

#: Children that nobody watches any more; still ours to reap while this daemon lives.
_released: list[subprocess.Popen[bytes]] = []


class DetachedProcess:
    """A process in a session of its own, known by a pidfd: no signal meets a stranger."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._pidfd: int | None = os.pidfd_open(pid)

    @classmethod
    def start(cls, argv: list[str], *, stderr: Path, pass_fds: tuple[int, ...]) -> DetachedProcess:
        _released[:] = [child for child in _released if child.poll() is None]
        with stderr.open("wb") as said:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=pass_fds,
                start_new_session=True,
                cwd="/",
            )
        return cls(child.pid, child)

    @classmethod
    def find(cls, pid_file: Path, mark: str) -> DetachedProcess | None:
        """The process of a pid file, if it is still the one whose command line holds `mark`."""
        try:
            return cls._marked(int(pid_file.read_text()), mark)
        except (FileNotFoundError, ValueError):
            return None

    @classmethod
    def search(cls, mark: str) -> DetachedProcess | None:
        """The process whose command line holds `mark`, with or without a pid file."""
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        found = (cls._marked(pid, mark) for pid in numbers if mark in _arguments(pid))
        return next((process for process in found if process is not None), None)

    @classmethod
    def _marked(cls, pid: int, mark: str) -> DetachedProcess | None:
        """Looked at when it is held: a number may have gone to another process meanwhile."""
        try:
            process = cls(pid)
        except ProcessLookupError:
            return None
        if mark in _arguments(pid):
            return process
        process.release()
        return None

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended` once, when the process is gone."""
        loop = asyncio.get_running_loop()
        pidfd = self._pidfd
        if pidfd is None:
            raise ValueError("a process that was released cannot be watched")

        def readable() -> None:
            loop.remove_reader(pidfd)
            ended()

        loop.add_reader(pidfd, readable)

    def exit_code(self) -> int | None:
        """Negative for a signal; None for another's child, whose end the kernel tells its parent alone."""
        return self._child.wait() if self._child is not None else None

    def kill(self) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def release(self) -> None:
        """Stop watching; the process lives on."""
        if self._pidfd is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._child is not None and self._child.returncode is None:
            _released.append(self._child)
            self._child = None


def _arguments(pid: int) -> list[str]:
    """Its argv; empty for one that has ended, and for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def unix_address(directory_fd: int, path: Path) -> str:
    """A UNIX socket's address that is short, however deep the directory: the kernel allows 107 bytes."""
    return f"/proc/self/fd/{directory_fd}/{path.name}"


def listen_unix(path: Path) -> socket.socket:
    """A listening socket for QEMU to inherit, so that it is there before QEMU is."""
    path.unlink(missing_ok=True)
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(unix_address(directory_fd, path))
        path.chmod(0o600)
        listener.listen(4)
        return listener
    finally:
        os.close(directory_fd)


def is_listened_to(path: Path) -> bool:
    """Whether some process holds the listening end of a UNIX socket."""
    try:
        connect_unix(path).close()
    except BlockingIOError:
        return True  # so many that it does not come to answer them
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def connect_unix(path: Path) -> socket.socket:
    """A connected, non-blocking socket; FileNotFoundError or ConnectionRefusedError when nobody listens."""
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(unix_address(directory_fd, path))
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(directory_fd)
