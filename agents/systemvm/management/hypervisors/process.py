# SPDX-License-Identifier: Apache-2.0
"""A hypervisor's process, which outlives the daemon and is watched by the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.launchers import QemuLauncher


class DetachedProcess:
    """The process of a machine, identified by a pidfd, so that no other process gets its signals."""

    def __init__(self, launcher: QemuLauncher, uuid: str, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._launcher = launcher
        self._uuid = uuid
        self._pidfd: int | None = pidfd

    @classmethod
    async def start(
        cls, launcher: QemuLauncher, uuid: str, argv: list[str], *, stderr: Path, descriptors: Sequence[int]
    ) -> DetachedProcess:
        with stderr.open("wb") as log:
            pid, pidfd = await launcher.start(argv, log.fileno(), descriptors)
        return cls(launcher, uuid, pid, pidfd)

    @classmethod
    async def find(cls, launcher: QemuLauncher, uuid: str) -> DetachedProcess | None:
        """Return the process that runs the machine `uuid`, or None."""
        found = await launcher.find(uuid)
        return cls(launcher, uuid, *found) if found is not None else None

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended` once, when the process has ended."""
        loop = asyncio.get_running_loop()
        pidfd = self._pidfd
        if pidfd is None:
            raise ValueError("process cannot be watched: it was released")

        def readable() -> None:
            loop.remove_reader(pidfd)
            ended()

        loop.add_reader(pidfd, readable)

    async def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None without its parent, who alone can read it."""
        try:
            return await self._launcher.exit_code(self.pid)
        except HypervisorError:
            return None

    async def kill(self) -> None:
        await self._launcher.kill(self.pid, self._uuid)

    def release(self) -> None:
        """Stop watching; the process continues."""
        if self._pidfd is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


def unix_address(directory_fd: int, path: Path) -> str:
    """Return a short address for a UNIX socket in any directory: the kernel allows 107 bytes."""
    return f"/proc/self/fd/{directory_fd}/{path.name}"


def listen_unix(path: Path) -> socket.socket:
    """Return a listening socket for QEMU to inherit; it exists before QEMU runs."""
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
    """Return whether any process listens on a UNIX socket."""
    try:
        connect_unix(path).close()
    except BlockingIOError:
        return True  # its queue is full
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def connect_unix(path: Path) -> socket.socket:
    """Return a connected, non-blocking socket.

    Raises: FileNotFoundError or ConnectionRefusedError when no process listens.
    """
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
