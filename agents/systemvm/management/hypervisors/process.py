# SPDX-License-Identifier: Apache-2.0
"""A hypervisor's process: started so that it outlives the daemon, and watched whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.launchers import Launcher


class DetachedProcess:
    """A machine's process, whoever started it, known by a pidfd: no signal meets a stranger."""

    def __init__(self, launcher: Launcher, uuid: str, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._launcher = launcher
        self._uuid = uuid
        self._pidfd: int | None = pidfd

    @classmethod
    async def start(
        cls, launcher: Launcher, uuid: str, argv: list[str], *, stderr: Path, descriptors: Sequence[int]
    ) -> DetachedProcess:
        with stderr.open("wb") as said:
            pid, pidfd = await launcher.start(argv, said.fileno(), descriptors)
        return cls(launcher, uuid, pid, pidfd)

    @classmethod
    async def find(cls, launcher: Launcher, uuid: str) -> DetachedProcess | None:
        """The process that runs the machine `uuid`."""
        found = await launcher.find(uuid)
        return cls(launcher, uuid, *found) if found is not None else None

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

    async def exit_code(self) -> int | None:
        """Negative for a signal; None when whoever started it is gone: the kernel tells the parent alone."""
        try:
            return await self._launcher.exit_code(self.pid)
        except HypervisorError:
            return None

    async def kill(self) -> None:
        await self._launcher.kill(self.pid, self._uuid)

    def release(self) -> None:
        """Stop watching; the process lives on."""
        if self._pidfd is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


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
